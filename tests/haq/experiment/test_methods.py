"""Search methods: the table, the space they receive, and the episodes of agents and proposers."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn

import haq
import hardware_sim
from agents.base import Agent, IntArray, Proposer, RolloutSimulator, RolloutStep, Transition
from agents.registry import METHODS, SearchMethod
from agents.space import SearchSpace
from envs.bit_allocation import BitAllocationEnv
from envs.choices import AllowedBits, Budget
from envs.rollout import EnvConfig
from haq.config import search_config
from haq.errors import UserError
from haq.experiment.methods import (
    AgentMethod,
    Method,
    ProposerMethod,
    RolloutAdapter,
    make_method,
    search_space,
    uses_prior,
)
from haq.tasks.classification import ClassificationTask
from hardware_sim.layer import Layer
from hardware_sim.proxy import proxy_table

LAYERS = (
    Layer(name="a", kind="linear", c_in=4, c_out=5),
    Layer(name="b", kind="linear", c_in=6, c_out=5),
    Layer(name="a:2", kind="linear", c_in=4, c_out=5, tied_to="a"),
)


def environment(part: float = 0.4) -> BitAllocationEnv:
    table = proxy_table(LAYERS)
    limit = part * float(table.policy_cost([8] * 3, [8] * 3).bops or 0)
    return BitAllocationEnv(
        LAYERS,
        table,
        Budget("bops", limit),
        lambda bits: float(bits.sum()),
        reward=lambda score: score / 100,
        allowed=AllowedBits(pinned={}),
        config=EnvConfig("haq"),
    )


def reward_of(bits: IntArray) -> float:
    return bits.sum() / 100


def played(method: Method) -> IntArray:
    """The bits of one proposal, after the method learned from it."""
    proposal = method.propose()
    method.learn(proposal, reward_of(proposal.bits))
    return proposal.bits


@pytest.mark.parametrize("name", METHODS)
def test_every_entry_builds_an_agent_or_a_proposer(name: str) -> None:
    env = environment()
    made = METHODS[name].build(search_space(env.choices), RolloutAdapter(env.rollouts), 0)
    assert isinstance(made, Agent) != isinstance(made, Proposer)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.is_deterministic])
def test_deterministic_methods_propose_the_same_for_every_seed(name: str) -> None:
    proposed = []
    for seed in (0, 1):
        method = make_method(name, environment(), seed=seed)
        proposed.append([played(method).tolist() for _ in range(4)])
    assert proposed[0] == proposed[1]


def test_only_methods_that_use_a_prior_ask_for_one() -> None:
    asking = {name for name in METHODS if uses_prior(search_config(agent=name))}
    assert set(METHODS) - asking == {"random", "ddpg-paper"}
    assert not uses_prior(search_config(agent="ddpg", prior="none"))


class Cheapest:
    """A search method in a file of its own: the cheapest policy, again and again."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space

    def propose(self) -> IntArray:
        return self._space.project(np.ones((len(self._space.names), 2), dtype=np.int64) * 2)

    def tell(self, bits: IntArray, score: float) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> None: ...


def test_a_method_is_added_by_one_class_and_one_entry(
    monkeypatch: pytest.MonkeyPatch, tiny_net: nn.Module, tiny_task: ClassificationTask
) -> None:
    with pytest.raises(UserError, match=r"^--agent 'cheapest': .*'ddpg', .* or 'uniform'$"):
        haq.search(tiny_net, tiny_task, agent="cheapest")
    entry = SearchMethod(lambda space, _, __: Cheapest(space), uses_prior=False, is_deterministic=True)
    monkeypatch.setitem(METHODS, "cheapest", entry)
    result = haq.search(tiny_net, tiny_task, agent="cheapest", budget=0.9, episodes=4, engine="torch")
    assert result.summary.episodes == 4


def test_a_device_is_added_by_one_file(tiny_net: nn.Module, tiny_task: ClassificationTask, tmp_path: Path) -> None:
    shipped = (Path(hardware_sim.__file__).parent / "devices" / "bismo-edge.toml").read_text(encoding="utf-8")
    device = tmp_path / "mine.toml"
    device.write_text(shipped.replace('name = "bismo-edge"', 'name = "mine"'), encoding="utf-8")
    settings: Any = {"agent": "uniform", "budget": 0.9, "episodes": 4, "engine": "torch"}
    result = haq.search(tiny_net, tiny_task, hardware=str(device), **settings)
    assert result.policy.hardware == str(device)


def test_search_space_has_the_choices_of_the_environment() -> None:
    env, prior = environment(), np.full((2, 8, 8), 0.1)
    space = search_space(env.choices, prior)
    assert space.names == ("a", "b")
    assert np.array_equal(space.allowed, env.choices.allowed)
    assert space.prior is prior
    bits = space.project(np.full((2, 2), 8))
    assert space.fits(bits)
    assert space.total(bits)[0] <= env.choices.limits[0] * (1 + 1e-12)
    assert np.array_equal(space.project(bits), bits)


@pytest.mark.parametrize("name", METHODS)
def test_proposals_have_bits_by_layer(name: str) -> None:
    method = make_method(name, environment(), seed=1)
    for _ in range(3):
        bits = played(method)
        assert bits.shape == (3, 2)
        assert bits[0].tolist() == bits[2].tolist()


@pytest.mark.parametrize("name", METHODS)
def test_policies_of_a_round_are_proposed_before_the_first_is_learned_from(name: str) -> None:
    method, again = (make_method(name, environment(), seed=1) for _ in range(2))
    for each in (method, again):
        for _ in range(3):
            proposals = [each.propose() for _ in range(3)]
            losses = [dict(each.learn(proposal, reward_of(proposal.bits))) for proposal in proposals]
            assert all(np.isfinite(loss) for one in losses for loss in one.values())
    assert method.propose().bits.tolist() == again.propose().bits.tolist()


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("random", "ddpg-paper")])
def test_proposers_propose_other_policies_within_a_round(name: str) -> None:
    method = make_method(name, environment(), seed=1)
    for _ in range(2):
        proposals = [method.propose() for _ in range(3)]
        assert len({proposal.bits.tobytes() for proposal in proposals}) == 3
        for proposal in proposals:
            method.learn(proposal, reward_of(proposal.bits))


def test_agents_observe_what_they_proposed_with_its_reward() -> None:
    observed: list[Transition] = []
    actions = iter((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8))
    agent = SimpleNamespace(act=lambda _: next(actions), observe=observed.append, end_episode=dict)
    method = AgentMethod(agent, environment())  # type: ignore[arg-type]
    first, second = method.propose(), method.propose()
    method.learn(first, -1.0)
    method.learn(second, -2.0)
    assert [step.proposed for step in observed] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    assert [step.reward for step in observed] == [0, 0, 0, -1.0, 0, 0, 0, -2.0]
    assert [step.terminated for step in observed] == [False, False, False, True] * 2


def test_simulated_rollouts_follow_the_rules_of_the_environment() -> None:
    env = environment()
    simulator: RolloutSimulator = RolloutAdapter(env.rollouts)
    limits = env.choices.limits * np.array([[1.0], [1e9]])
    widest = simulator.simulate(lambda _: np.ones(2), limits)
    assert env.choices.fits(widest[0])
    assert (widest[1] == env.choices.allowed.shape[1]).all()
    assert not env.choices.fits(widest[1])


def test_simulated_rollouts_tell_which_widths_may_be_chosen() -> None:
    env = environment()
    steps: list[tuple[int, int]] = []

    def act(step: RolloutStep) -> NDArray[np.float64]:
        steps.append((step.decision, step.column))
        chosen = step.selectable[0].nonzero()[0].max() + 1
        return np.array([(chosen - simulator.min_bits + 0.5) / (simulator.max_bits - simulator.min_bits + 1)])

    simulator = RolloutAdapter(env.rollouts)
    bits = simulator.simulate(act, env.choices.limits[None])
    assert steps == [(decision, column) for decision in range(len(bits[0])) for column in env.rollouts.columns]
    assert env.choices.fits(bits[0])


class Recorder:
    """Proposer that keeps what `tell` receives."""

    def __init__(self) -> None:
        self.told: list[tuple[list[list[int]], float]] = []

    def propose(self) -> IntArray:
        return np.array([[2, 3], [4, 5]])

    def tell(self, bits: IntArray, score: float) -> None:
        self.told.append((bits.tolist(), score))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> None:
        """Nothing to load."""


def test_proposers_receive_their_policy_by_decision() -> None:
    recorder = Recorder()
    bits = played(ProposerMethod(recorder, environment()))
    assert bits.tolist() == [[2, 3], [4, 5], [2, 3]]
    assert recorder.told == [([[2, 3], [4, 5]], pytest.approx(0.19))]


def test_on_another_budget_agents_continue_and_proposers_receive_all_policies() -> None:
    known = [(np.array([[2, 2], [3, 3]]), 0.5), (np.array([[8, 8], [8, 8]]), 0.7)]
    recorder = Recorder()
    ProposerMethod(recorder, environment()).take_over(ProposerMethod(Recorder(), environment(0.9)), known)
    assert recorder.told == [(bits.tolist(), score) for bits, score in known]
    before, after = (make_method("ddpg-paper", environment(part), seed=seed) for part, seed in ((0.9, 0), (0.4, 1)))
    played(before)
    after.take_over(before, known)
    assert after.state_dict()["episodes"] == 1


@pytest.mark.parametrize("name", METHODS)
def test_every_method_keeps_to_legal_pairs_with_gaps(name: str) -> None:
    legal = {(2, 8), (4, 8), (8, 8), (8, 4)}
    table = proxy_table(LAYERS)
    limit = 0.6 * float(table.policy_cost([8] * 3, [8] * 3).bops or 0)
    env = BitAllocationEnv(
        LAYERS,
        table,
        Budget("bops", limit),
        lambda bits: float(bits.sum()),
        reward=lambda score: score / 100,
        allowed=AllowedBits(pinned={}, legal={"a": legal, "b": legal}),
    )
    method = make_method(name, env, seed=0)
    for _ in range(6):
        assert {tuple(pair) for pair in played(method).tolist()} <= legal

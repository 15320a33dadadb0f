"""What search methods are given, and how the loop plays with each kind."""

from typing import Any, get_args

import numpy as np
import pytest

from agents.base import Agent, IntArray, Proposer, RolloutSimulator
from envs.bit_allocation import BitAllocationEnv, EnvConfig
from envs.choices import AllowedBits, Budget
from haq.config import AgentName
from haq.experiment.methods import METHODS, ProposerMethod, RolloutAdapter, make_method, search_space
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


def test_every_name_stands_for_a_method() -> None:
    assert set(METHODS) == set(get_args(AgentName))
    env = environment()
    for name, make in METHODS.items():
        made = make(search_space(env.choice), RolloutAdapter(env.rollouts), 0)
        assert isinstance(made, Agent) != isinstance(made, Proposer), name


def test_the_space_is_the_environments_choice() -> None:
    env, prior = environment(), np.full((2, 8, 8), 0.1)
    space = search_space(env.choice, prior)
    assert space.names == ("a", "b")
    assert np.array_equal(space.allowed, env.choice.allowed)
    assert space.prior is prior
    bits = space.project(np.full((2, 2), 8))
    assert space.fits(bits)
    assert space.total(bits)[0] <= env.choice.limits[0] * (1 + 1e-12)
    assert np.array_equal(space.project(bits), bits)


@pytest.mark.parametrize("name", get_args(AgentName))
def test_an_episode_has_bits_by_layer_and_what_they_earned(name: AgentName) -> None:
    method = make_method(name, environment(), seed=1)
    for _ in range(3):
        played = method.play()
        assert played.bits.shape == (3, 2)
        assert played.bits[0].tolist() == played.bits[2].tolist()
        assert played.reward == played.bits.sum() / 100


def test_walks_are_imagined_by_the_environments_rules() -> None:
    env = environment()
    simulator: RolloutSimulator = RolloutAdapter(env.rollouts)
    rollout = simulator.rollout(lambda observation: float(observation[0]))
    assert env.choice.fits(rollout.bits)
    assert rollout.observations.shape == (4, simulator.observation_size)
    again = simulator.rollout_of(rollout.bits)
    assert np.array_equal(again.bits, rollout.bits)
    assert again.actions.dtype == rollout.actions.dtype == np.float32


class Scribe:
    """A proposer that writes down what it is told."""

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


def test_a_proposer_is_told_of_its_policy_by_decision() -> None:
    scribe = Scribe()
    played = ProposerMethod(scribe, environment()).play()
    assert played.bits.tolist() == [[2, 3], [4, 5], [2, 3]]
    assert scribe.told == [([[2, 3], [4, 5]], pytest.approx(0.19))]


def test_on_another_budget_an_agent_goes_on_and_a_proposer_hears_the_news() -> None:
    known = [(np.array([[2, 2], [3, 3]]), 0.5), (np.array([[8, 8], [8, 8]]), 0.7)]
    scribe = Scribe()
    ProposerMethod(scribe, environment()).take_over(ProposerMethod(Scribe(), environment(0.9)), known)
    assert scribe.told == [(bits.tolist(), score) for bits, score in known]
    before, after = (make_method("ddpg-paper", environment(part), seed=seed) for part, seed in ((0.9, 0), (0.4, 1)))
    before.play()
    after.take_over(before, known)
    assert after.state_dict()["episodes"] == 1

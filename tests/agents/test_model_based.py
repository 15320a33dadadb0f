"""Searches with a model of the reward: quality of few proposals, foreign observations, and restored states."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch

from agents import Proposer, RolloutDDPG, RolloutDDPGConfig, SearchSpace, Surrogate, SurrogateConfig
from agents.loss_terms import log_sum_exp, term_indices
from agents.model_based import ModelBasedSearch
from agents.uniform import uniform_policies

Make = Callable[..., ModelBasedSearch]
SIZES = (1.0, 2.0, 3.0, 4.0, 4.0, 6.0, 8.0, 2.0)


@pytest.fixture
def space(make_space) -> SearchSpace:
    return make_space(SIZES, widths=(2, 3, 4, 5, 6, 7, 8), ratios=(0.25,))


@pytest.fixture(params=["surrogate", "ddpg"])
def make(request, make_simulator) -> Make:
    def surrogate(space: SearchSpace, seed: int = 0, **settings: int) -> Surrogate:
        return Surrogate(space, config=SurrogateConfig(**settings), seed=seed)

    def ddpg(space: SearchSpace, seed: int = 0, **settings: int) -> RolloutDDPG:
        config = RolloutDDPGConfig(**{"training_rollouts": 8, "updates": 2} | settings)
        return RolloutDDPG(space, make_simulator(space), config=config, seed=seed)

    return surrogate if request.param == "surrogate" else ddpg


def divergence(bits: np.ndarray, seed: int = 0) -> float:
    """Additive loss, and an interaction of adjacent decisions at few bits."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(0, 1, (len(bits), 2, 1)) - 1.3 * np.arange(1, 9)
    value = log_sum_exp(theta.ravel(), term_indices(bits[None], 8))[0][0]
    return float(np.exp(value + 0.1 * (bits[1:, 0] + bits[:-1, 0] < 8).sum()))


def play(agent: Proposer, rounds: int, seed: int = 0) -> list[float]:
    """Divergences of proposals, with scores of minus the divergence."""
    found = []
    for _ in range(rounds):
        bits = agent.propose()
        found.append(divergence(bits, seed))
        agent.tell(bits, -found[-1])
    return found


def through_a_file(state: dict) -> dict:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_implements_proposer_protocol(make, space):
    assert isinstance(make(space), Proposer)


def test_first_proposals_are_best_prior_and_uniform_policy(make, space):
    agent = make(space)
    first = agent.propose()
    agent.tell(first, -1.0)
    second = agent.propose()
    assert space.expected_loss(first) <= space.expected_loss(second)
    assert (second == space.project(next(uniform_policies(space)))).all()
    agent.tell(second, -0.5)
    assert (agent.propose() != second).any()


def test_proposals_are_legal_and_distinct(make, space):
    agent, seen = make(space), set()
    for _ in range(15):
        bits = agent.propose()
        assert bits.dtype == np.int64
        assert space.fits(bits)
        assert bits.tobytes() not in seen
        seen.add(bits.tobytes())
        agent.tell(bits, -divergence(bits))


@pytest.mark.parametrize("seed", [0, 1])
def test_25_proposals_beat_300_random_policies(make, space, seed):
    rng = np.random.default_rng(seed)
    random = min(divergence(space.sample(rng), seed) for _ in range(300))
    assert min(play(make(space, seed), 25, seed)) < 0.9 * random


def test_tied_accuracies_are_learned_from(make, space):
    """Accuracies in steps of half a percent, above and below that of the float network."""

    def accuracy(bits: np.ndarray) -> float:
        return float(np.round(200 * (0.92 - 0.02 * np.log(divergence(bits)))) / 200)

    rng = np.random.default_rng(0)
    random = max(accuracy(space.sample(rng)) for _ in range(100))
    agent, best = make(space), 0.0
    for _ in range(25):
        bits = agent.propose()
        best = max(best, accuracy(bits))
        agent.tell(bits, 10 * (accuracy(bits) - 0.93))
    assert best >= random


def test_equal_seeds_give_equal_proposals(make, space):
    assert play(make(space, 3), 10) == play(make(space, 3), 10)


@pytest.mark.parametrize("stop", [0, 1, 7, 12])
def test_restored_agent_continues_identically(make, space, stop):
    agent, restored = make(space, 0, max_observations=8), make(space, 99, max_observations=8)
    play(restored, 3)
    play(agent, stop)
    restored.load_state_dict(through_a_file(agent.state_dict()))
    assert play(agent, 6) == play(restored, 6)


def test_state_dict_is_independent_of_later_changes(make, space):
    agent, other = make(space), make(space, 1)
    play(agent, 5)
    state = agent.state_dict()
    saved = through_a_file(state)
    expected = play(agent, 5)
    other.load_state_dict(state)
    assert play(other, 5) == expected
    other.load_state_dict(saved)
    assert play(other, 5) == expected


def test_scores_from_other_budgets_improve_first_proposals(make, space):
    """Policies over the budget are informative about layers too."""
    rng = np.random.default_rng(0)
    cold, warm = make(space), make(space)
    for bits in rng.integers(3, 9, (60, len(SIZES), 2)):
        warm.tell(bits, -divergence(bits))
    assert min(play(warm, 3)) < min(play(cold, 3))


def test_policies_over_budget_are_not_proposed(make, space):
    agent = make(space)
    for width in (1, 7, 8):
        agent.tell(np.full((len(SIZES), 2), width), 1e6)
    assert space.fits(agent.propose())


def test_predicted_scores_are_calibrated(make, space):
    """Observed scores are predicted closely, others within a few standard deviations."""
    agent, rng = make(space), np.random.default_rng(2)
    seen, unseen = (np.stack([space.sample(rng) for _ in range(count)]) for count in (40, 20))
    for bits in seen:
        agent.tell(bits, -divergence(bits))
    agent.fit_model()
    truth = -np.array([divergence(bits) for bits in unseen])
    mean, std = agent.predict(unseen)
    assert np.abs((mean - truth) / std).mean() < 2
    best = seen[np.argmin([divergence(bits) for bits in seen])]
    assert agent.predict(best[None])[0][0] == pytest.approx(-divergence(best), rel=0.15)


def test_candidates_may_be_optima_alone(space, make_simulator):
    simulator = make_simulator(space)
    for agent in (
        Surrogate(space, config=SurrogateConfig(neighbours=0)),
        RolloutDDPG(space, simulator, config=RolloutDDPGConfig(changed_rollouts=0, training_rounds=0)),
    ):
        assert len(play(agent, 4)) == 4


def test_best_policy_is_repeated_when_space_is_exhausted(make, make_space):
    space = make_space((1.0, 2.0), widths=(2, 3), ratios=(0.6,))
    agent, found = make(space), {}
    for _ in range(15):
        bits = agent.propose()
        found[bits.tobytes()] = divergence(bits)
        agent.tell(bits, -found[bits.tobytes()])
    assert found[agent.propose().tobytes()] == min(found.values())


def test_only_policy_is_proposed_again_while_its_score_is_awaited(make, make_space):
    agent = make(make_space((1.0,), widths=(2,), ratios=(1.0,)))
    assert [agent.propose().tolist() for _ in range(3)] == 3 * [[[2, 2]]]


def test_awaited_scores_count_as_evaluations_without_improvement(make, space, monkeypatch):
    """At every third of them the candidate of highest expected score is proposed."""
    agent, explored = make(space, exploit_every=3), []
    for score in (-1.0, -2.0):
        agent.tell(agent.propose(), score)

    def improvement(mean: np.ndarray, *_: object) -> np.ndarray:
        explored[-1] = True
        return -mean

    monkeypatch.setattr("agents.model_based.log_expected_improvement", improvement)
    for _ in range(4):
        explored.append(False)
        agent.propose()
    assert explored == [True, True, False, True]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_score_raises(make, space, bad):
    with pytest.raises(ValueError, match="finite"):
        make(space).tell(np.full((len(SIZES), 2), 3), bad)


@pytest.mark.parametrize("bits", [np.full((3, 2), 3), np.full((8, 2), 0), np.full((8, 2), 9)])
def test_policy_of_other_shape_raises(make, space, bits):
    with pytest.raises(ValueError, match=r"\[8, 2\]"):
        make(space).tell(bits, -0.5)


@pytest.mark.parametrize(
    "settings", [{"exploit_every": 0}, {"max_observations": 1}, {"posterior_samples": -1}, {"max_candidates": 0.5}]
)
def test_settings_out_of_range_raise(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"^{name} must be an integer"):
        SurrogateConfig(**settings)

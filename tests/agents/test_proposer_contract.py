"""Contract tests of `Proposer`; a new proposer is one line in PROPOSERS."""

import io
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch

from agents import ILP, TPE, Evolution, Greedy, Proposer, SearchSpace, Uniform

Make = Callable[[SearchSpace, int], Proposer]
PROPOSERS: dict[str, Make] = {
    "uniform": lambda space, _: Uniform(space),
    "evolution": lambda space, seed: Evolution(space, population=7, seed=seed),
    "greedy": lambda space, _: Greedy(space),
    "ilp": lambda space, _: ILP(space),
    "tpe": lambda space, seed: TPE(space, seed=seed),
}
RANDOM = ("evolution", "tpe")
SPACES = {
    "one budget": {},
    "pinned": {"pinned": True, "ratios": (0.85,)},
    "three budgets": {"ratios": (0.5, 0.7, 0.8)},
    "one decision": {"sizes": (2.0,)},
    "one pair": {"sizes": (2.0,), "widths": (3,), "ratios": (1.0,)},
    "everything fits": {"ratios": (1.0,)},
    "fixed activations": {"sizes": (3.0, 1.0, 2.0), "widths": (2, 4, 8), "ratios": (0.4,)},
}
ROUNDS = 8


@pytest.fixture(params=PROPOSERS.values(), ids=PROPOSERS.keys())
def make(request: pytest.FixtureRequest) -> Make:
    return request.param


@pytest.fixture
def space(make_space) -> SearchSpace:
    return make_space()


def score(bits: np.ndarray) -> float:
    weights = np.arange(1, len(bits) + 1)
    return 1 - float((weights[:, None] * 0.4**bits).sum())


def play(proposer: Proposer, rounds: int, foreign: np.ndarray | None = None) -> list[list[list[int]]]:
    """Proposals as lists; the score of a foreign policy is told after the first one."""
    answers = []
    for turn in range(rounds):
        bits = proposer.propose()
        answers.append(bits.tolist())
        proposer.tell(bits, score(bits))
        if foreign is not None and turn == 0:
            proposer.tell(foreign, score(foreign))
    return answers


def through_a_file(state: dict) -> dict:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_implements_proposer_protocol(make, space):
    assert isinstance(make(space, 0), Proposer)


@pytest.mark.parametrize("shape", SPACES.values(), ids=SPACES.keys())
@pytest.mark.parametrize("with_prior", [False, True])
def test_proposals_are_legal(make, make_space, shape, with_prior):
    space = make_space(**shape)
    if with_prior:
        prior = np.random.default_rng(5).random(space.allowed.shape)
        space = make_space(**shape, prior=prior)
    proposer = make(space, 0)
    for _ in range(ROUNDS):
        bits = proposer.propose()
        assert bits.dtype == np.int64
        assert space.fits(bits)
        proposer.tell(bits, score(bits))


def test_equal_seeds_give_equal_proposals(make, space):
    assert play(make(space, 3), ROUNDS) == play(make(space, 3), ROUNDS)


def test_different_seeds_give_different_proposals_of_random_methods(make_space):
    space = make_space()
    for name in RANDOM:
        assert play(PROPOSERS[name](space, 0), 2 * ROUNDS) != play(PROPOSERS[name](space, 1), 2 * ROUNDS)


def test_global_generators_are_not_used(make, space):
    first = play(make(space, 3), ROUNDS)
    torch.manual_seed(12345)
    np.random.seed(12345)  # noqa: NPY002  # the global generator must not be used
    random.seed(12345)
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    assert play(make(space, 3), ROUNDS) == first
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1][1]).all()  # noqa: NPY002
    assert random.getstate() == before[2]


@pytest.mark.parametrize("stop", [0, 1, 6])
def test_restored_proposer_continues_identically(make, space, stop):
    proposer, restored = make(space, 0), make(space, 99)
    foreign = space.sample(np.random.default_rng(8))
    play(proposer, stop, foreign)
    play(restored, 3)
    restored.load_state_dict(through_a_file(proposer.state_dict()))
    assert play(proposer, ROUNDS) == play(restored, ROUNDS)


def test_state_dict_keeps_pending_proposal(make, space):
    proposer, restored = make(space, 0), make(space, 99)
    play(proposer, 6)
    pending = proposer.propose()
    restored.load_state_dict(through_a_file(proposer.state_dict()))
    for each in (proposer, restored):
        each.tell(pending, score(pending))
    assert play(proposer, ROUNDS) == play(restored, ROUNDS)


def test_state_dict_is_independent_of_later_changes(make, space):
    proposer = make(space, 0)
    play(proposer, 5)
    state = proposer.state_dict()
    saved = through_a_file(state)
    expected = play(proposer, ROUNDS)
    first, second = make(space, 1), make(space, 2)
    first.load_state_dict(state)
    assert play(first, ROUNDS) == expected
    second.load_state_dict(state)
    assert play(second, ROUNDS) == expected
    second.load_state_dict(saved)
    assert play(second, ROUNDS) == expected


def test_told_foreign_policy_is_not_proposed(make, space):
    foreign = make(space, 0).propose()
    proposer = make(space, 0)
    proposer.tell(foreign, 0.5)
    assert foreign.tolist() not in play(proposer, ROUNDS)


def test_told_policies_over_budget_are_ignored(make, space):
    proposer = make(space, 0)
    for width in (1, 5, 8):
        proposer.tell(np.full((4, 2), width), 1e6)
    for _ in range(ROUNDS):
        bits = proposer.propose()
        assert space.fits(bits)
        proposer.tell(bits, score(bits))


def test_proposals_differ_without_scores(make, space):
    proposer = make(space, 0)
    answers = [proposer.propose().tobytes() for _ in range(4)]
    assert len(set(answers)) == 4


def test_best_policy_is_repeated_when_space_is_exhausted(make, make_space):
    """Two decisions with two widths each, where the remaining budget is always spent."""
    space = make_space((1.0, 2.0), widths=(2, 3), ratios=(0.6,))
    proposer = make(space, 0)
    scores = {}
    for _ in range(20):
        bits = proposer.propose()
        scores[bits.tobytes()] = score(bits)
        proposer.tell(bits, score(bits))
    assert scores[proposer.propose().tobytes()] == max(scores.values())


def test_proposed_and_told_arrays_are_copied(make, space):
    proposer, other = make(space, 0), make(space, 0)
    bits, same = proposer.propose(), other.propose()
    proposer.tell(bits, score(bits))
    other.tell(same, score(same))
    bits[:] = 1
    assert play(proposer, ROUNDS) == play(other, ROUNDS)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_score_raises(make, space, bad):
    with pytest.raises(ValueError, match="finite"):
        make(space, 0).tell(space.project(np.full((4, 2), 3)), bad)


def test_policy_of_other_shape_raises(make, space):
    with pytest.raises(ValueError, match=r"\[4, 2\]"):
        make(space, 0).tell(np.full((3, 2), 3), 0.5)

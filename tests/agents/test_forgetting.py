"""Memory of search methods in long searches: bounded, the best kept, and equal after a restart."""

from collections.abc import Callable

import numpy as np
import pytest

from agents import TPE, Evolution, Greedy, SearchSpace, Surrogate, Uniform, archive, observations, tpe
from agents.archive import Archive, best_and_latest
from agents.base import Proposer
from agents.observations import Observations

CAPACITY = 4


METHODS: dict[str, Callable[[SearchSpace], Proposer]] = {
    "surrogate": lambda space: Surrogate(space, seed=0),
    "evolution": lambda space: Evolution(space, seed=0),
    "greedy": Greedy,
    "tpe": lambda space: TPE(space, seed=0),
    "uniform": Uniform,
}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (archive, observations):
        monkeypatch.setattr(module, "CAPACITY", CAPACITY)
    monkeypatch.setattr(tpe, "_TRIALS", CAPACITY)


def score(bits: np.ndarray) -> float:
    weights = np.arange(1, len(bits) + 1)
    return 1 - float((weights[:, None] * 0.4**bits).sum())


def play(proposer: Proposer, rounds: int) -> list[list[list[int]]]:
    proposed = []
    for _ in range(rounds):
        bits = proposer.propose()
        proposed.append(bits.tolist())
        proposer.tell(bits, score(bits))
    return proposed


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("rounds", [9, 17])
def test_a_method_that_has_forgotten_policies_continues_identically(name, rounds, make_space):
    space = make_space()
    proposer, restored = METHODS[name](space), METHODS[name](space)
    play(proposer, rounds)
    restored.load_state_dict(proposer.state_dict())
    assert play(proposer, 12) == play(restored, 12)


@pytest.mark.parametrize("name", METHODS)
def test_the_state_of_a_method_does_not_grow_with_its_evaluations(name, make_space):
    proposer = METHODS[name](make_space())
    play(proposer, 30)
    state = proposer.state_dict()
    entries = [state["scores"]] if name == "surrogate" else [state["archive"]["scores"], state.get("scores", ())]
    assert max(map(len, entries)) < 2 * CAPACITY


def test_an_archive_keeps_the_best_and_the_latest(make_space):
    space = make_space()
    kept, policies = Archive(space), {tuple(map(tuple, space.sample(np.random.default_rng(n)))) for n in range(30)}
    scored = [(np.array(bits), value) for value, bits in zip((9, 1, 8, 2, 3, 4, 5, 6), sorted(policies), strict=False)]
    for bits, value in scored:
        kept.record(bits, value)
    assert kept.policies[0].tolist() == scored[0][0].tolist()
    assert [bits.tolist() for bits in kept.policies] == [scored[n][0].tolist() for n in (0, 2, 6, 7)]
    assert [bits.tolist() for bits in kept.top(3)] == [scored[n][0].tolist() for n in (0, 2, 7)]


def test_the_best_observation_within_the_budget_stays_and_all_are_counted(make_space):
    space = make_space()
    found = Observations(space)
    policies = {tuple(map(tuple, space.sample(np.random.default_rng(n)))) for n in range(60)}
    assert len(policies) > 20
    for number, bits in enumerate(sorted(policies)):
        found.add(np.array(bits), -abs(number - 5.0))
    assert found.count == len(policies)
    assert found.best is not None
    assert found.best[1] == 0.0
    selected, scores = found.select(3)
    assert scores[0] == 0.0
    assert selected.shape == (3, 4, 2)


def test_pending_policies_are_the_last_to_be_kept_for_their_score():
    losses = np.array([np.nan, 0.5, 0.1, 0.9, 0.2, np.nan])
    assert best_and_latest(losses, 4).tolist() == [2, 3, 4, 5]
    assert best_and_latest(losses, 6).tolist() == list(range(6))

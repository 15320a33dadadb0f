"""What a search does with what others found."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from envs.choices import Choices, IntArray
from haq.evaluation.protocols import Evaluation
from haq.experiment.inputs import Observations
from haq.experiment.methods import Method, Proposal, ScoredPolicies
from haq.searching.warm_start import WarmStart, opening

EVALUATION = Evaluation(accuracy=0.5, divergence=0.1, noise=0.1)


def bits_of(first: int, second: int) -> IntArray:
    return np.array([(first, 8), (second, 8)], dtype=np.int64)


TOLD: Observations = [(bits_of(2, 2), -3.0), (bits_of(4, 4), -1.0), (bits_of(8, 8), 0.0), (bits_of(3, 4), -2.0)]


@pytest.fixture
def choice() -> Choices:
    """Weights of 2 to 4 bits, of which there are 8 in all."""
    allowed = np.zeros((2, 8, 8), dtype=np.bool_)
    allowed[:, 1:4, 7] = True
    cost = np.broadcast_to(np.arange(1.0, 9.0)[:, None], (1, 2, 8, 8)).copy()
    return Choices(("one", "two"), (0, 1), allowed, cost, np.array([8.0]), ("latency",))


class Recorder:
    """A method that proposes 2 bits, and remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[IntArray, float]] = []

    def propose(self) -> Proposal:
        return Proposal(bits_of(2, 2), bits_of(2, 2))

    def learn(self, proposal: Proposal, reward: float) -> Mapping[str, float]:
        self.told.append((proposal.decisions, reward))
        return {"loss": reward}

    def take_over(self, earlier: Method, known: ScoredPolicies) -> None:  # noqa: ARG002
        self.told += known

    def state_dict(self) -> dict[str, Any]:
        return {"told": len(self.told)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        assert state == self.state_dict()


@pytest.fixture
def env(choice: Choices) -> Any:
    return SimpleNamespace(choices=choice)


def test_opening_has_the_best_policies_that_fit(choice: Choices) -> None:
    assert [bits[:, 0].tolist() for bits in opening(choice, TOLD)] == [[4, 4], [3, 4], [2, 2]]


def test_opening_is_limited(choice: Choices) -> None:
    assert len(opening(choice, [*TOLD, *TOLD])) == 5


def test_method_proposes_after_the_opening(choice: Choices, env: Any) -> None:
    method = Recorder()
    warm = WarmStart(method, env, choice, TOLD)
    assert len(method.told) == len(TOLD)
    assert [warm.propose().bits[:, 0].tolist() for _ in range(4)] == [[4, 4], [3, 4], [2, 2], [2, 2]]


def test_method_learns_from_its_own_proposals_only(choice: Choices, env: Any) -> None:
    method = Recorder()
    warm = WarmStart(method, env, choice, TOLD)
    proposals = [warm.propose() for _ in range(5)]
    losses = [warm.learn(proposal, -float(number)) for number, proposal in enumerate(proposals)]
    assert losses == [{}, {}, {}, {"loss": -3.0}, {"loss": -4.0}]
    assert [score for _, score in method.told[len(TOLD) :]] == [-3.0, -4.0]


def test_warm_start_resumes_within_the_opening(choice: Choices, env: Any) -> None:
    warm, again = (WarmStart(Recorder(), env, choice, TOLD) for _ in range(2))
    warm.learn(warm.propose(), 8.0)
    again.load_state_dict(warm.state_dict())
    assert again.propose().bits[:, 0].tolist() == [3, 4]

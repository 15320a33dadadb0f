"""Evaluations that were requested before: by whom they are run, once each, and what is counted."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from haq.errors import UserError
from haq.evaluation.evaluator import Evaluator
from haq.evaluation.protocols import Evaluation
from haq.policy import PolicyBits
from haq.tasks.classification import ClassificationTask

Policy = tuple[Sequence[int], Sequence[int]]
A, B = ((8,), (8,)), ((4,), (4,))


class Direct:
    """Pool that runs a call at once, in this process."""

    slots = 1

    def __init__(self) -> None:
        self.calls: list[PolicyBits] = []

    def share(self, value: Any) -> Any:
        return SimpleNamespace(get=lambda: value)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        self.calls.append(arguments[1])
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments))
        except UserError as error:
            future.set_exception(error)
        return future


class OneLayer:
    """Engine whose network gives the images' first pixels, shifted by the bits."""

    name, images_per_policy, model = "stub", 0, nn.Identity()

    def runner(self, bits: PolicyBits | None) -> Callable[[Any], Any]:
        if bits is not None and bits[0] == (1,):
            raise UserError("no bit")
        shift = 0.0 if bits is None else 1.0 / (bits[0][0] or 1)
        return lambda inputs: inputs.flatten(1)[:, :4] + shift * torch.arange(4)


@pytest.fixture
def evaluator(tiny_task: ClassificationTask) -> Evaluator:
    return Evaluator(OneLayer(), tiny_task, "search")


def test_requested_policies_are_evaluated_by_the_workers_once(evaluator: Evaluator) -> None:
    expected = evaluator.evaluate(*B)
    pool = Direct()
    with evaluator.distributed(pool):
        for policy in (A, A, B):
            evaluator.request(*policy)
        assert pool.calls == [A]
        found = evaluator.evaluate(*A)
        evaluator.request(*A)
        assert pool.calls == [A]
    assert (evaluator.evaluate(*B), evaluator.evaluate(*A)) == (expected, found)
    assert evaluator.evaluations == 2


def test_a_request_counts_when_its_policy_is_evaluated(evaluator: Evaluator) -> None:
    with evaluator.distributed(Direct()):
        evaluator.request(*A)
        assert evaluator.evaluations == 0
        evaluator.evaluate(*A)
    assert evaluator.evaluations == 1


def test_workers_compute_what_this_process_does(tiny_task: ClassificationTask, evaluator: Evaluator) -> None:
    alone = Evaluator(OneLayer(), tiny_task, "search")
    with evaluator.distributed(Direct()):
        evaluator.request(*A)
        assert evaluator.evaluate(*A) == alone.evaluate(*A)


def test_policies_of_a_journal_are_not_requested(evaluator: Evaluator) -> None:
    pool = Direct()
    evaluator.recall(*A, Evaluation(0.5, 0.1, 0.1), is_counted=False)
    with evaluator.distributed(pool):
        evaluator.request(*A)
    assert pool.calls == []


def test_errors_of_workers_are_raised_when_their_policy_is_evaluated(evaluator: Evaluator) -> None:
    with evaluator.distributed(Direct()):
        evaluator.request((1,), (1,))
        with pytest.raises(UserError, match="no bit"):
            evaluator.evaluate((1,), (1,))


def test_without_workers_a_request_does_nothing(evaluator: Evaluator) -> None:
    evaluator.request(*A)
    assert evaluator.evaluations == 0

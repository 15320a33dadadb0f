"""What holds for every task."""

from collections.abc import Callable
from itertools import zip_longest
from typing import Any, cast, get_args

import pytest
import torch
from torch import Generator, Tensor, nn

from haq.errors import UserError
from haq.execution.networks import run_network
from haq.execution.structures import concatenate, item_count, take, tensors
from haq.network.models.digits_training import train_digits
from haq.tasks import load_task
from haq.tasks.base import SplitName, Task
from haq.tasks.predictions import predictions, score

NETWORKS = {"regression": "motion", "cells": "cell_net", "cyclic_text": "successor"}
"""Fixture of a network that solves the task, by the fixture of the task."""


@pytest.fixture(params=["digits", *NETWORKS])
def task(request: pytest.FixtureRequest) -> Task:
    return cast(Task, load_task("digits") if request.param == "digits" else request.getfixturevalue(request.param))


@pytest.fixture
def model(task: Task, request: pytest.FixtureRequest) -> nn.Module:
    """A network that solves the task."""
    if task.name == "digits":
        return train_digits()
    fixture = request.node.callspec.params["task"]
    return cast(nn.Module, request.getfixturevalue(NETWORKS[fixture]))


def run(model: nn.Module) -> Callable[[Any], Any]:
    return lambda inputs: run_network(model, inputs)


def all_equal(ours: Any, theirs: Any) -> bool:
    return all(torch.equal(x, y) for x, y in zip_longest(tensors(ours), tensors(theirs), fillvalue=Tensor()))


@pytest.mark.parametrize("split", ["calibration", "search", "report"])
def test_batches_give_every_item_once_in_the_same_order(task: Task, split: SplitName) -> None:
    whole, parts = (
        [
            take(inputs, slice(item, item + 1))
            for inputs, _ in task.batches(split, batch_size=batch_size)
            for item in range(item_count(inputs))
        ]
        for batch_size in (task.size(split), 7)
    )
    assert [len(whole), len(parts)] == [task.size(split)] * 2
    assert all(all_equal(*pair) for pair in zip(whole, parts, strict=True))


def test_unknown_splits_are_empty(task: Task) -> None:
    names = [name for name in get_args(SplitName) if not task.size(name)]
    assert all(not list(task.batches(name, batch_size=3)) for name in names)


def test_shuffling_depends_on_the_generator_alone(task: Task) -> None:
    first, again, other = (
        next(task.shuffled("search", batch_size=16, generator=Generator().manual_seed(seed))) for seed in (1, 1, 2)
    )
    assert all_equal(first, again)
    assert not all_equal(first, other)


def test_the_example_is_the_first_calibration_input(task: Task) -> None:
    inputs, _ = next(task.batches("calibration", batch_size=1))
    assert all_equal(task.example(), inputs)
    assert item_count(task.example()) == 1


def test_the_network_is_validated(task: Task, model: nn.Module) -> None:
    class Wrong(nn.Module):
        def forward(self, *_inputs: Any, **_named: Any) -> Tensor:
            return torch.zeros(1, 3, 3)

    task.validate(model)
    with pytest.raises(UserError):
        task.validate(Wrong())


def test_loss_is_a_scalar_with_a_gradient(task: Task, model: nn.Module) -> None:
    inputs, targets = next(task.batches("search", batch_size=8))
    loss = task.loss(run_network(model, inputs), targets)
    assert loss.ndim == 0
    assert loss.requires_grad


def test_distances_are_sums_over_items_and_zero_for_equal_outputs(task: Task, model: nn.Module) -> None:
    with torch.no_grad():
        pairs = [
            (run_network(model, inputs), next(task.batches("report", batch_size=8))[0])
            for inputs, _ in task.batches("search", batch_size=8)
        ][:2]
        others = [run_network(model, inputs) for _, inputs in pairs]
    batches = [(outputs, other) for (outputs, _), other in zip(pairs, others, strict=True)]
    both = task.distance(*(concatenate(each, [8, 8]) for each in zip(*batches, strict=True)))
    single = [task.distance(*each) for each in batches]
    for part in ("divergence", "error", "signal"):
        assert getattr(both, part).item() == pytest.approx(sum(getattr(each, part).item() for each in single), rel=1e-4)
    same = task.distance(pairs[0][0], pairs[0][0])
    assert (same.divergence.item(), same.error.item()) == pytest.approx((0.0, 0.0), abs=1e-5)
    assert both.error.item() > 0


def test_a_network_that_solves_the_task_has_a_good_score(task: Task, model: nn.Module) -> None:
    metric, found = task.metric, score(run(model), task, "report", batch_size=64)
    assert metric.allows(found)
    assert metric.score(found) == pytest.approx(metric.high if metric.higher_is_better else metric.low, abs=0.05)
    assert metric.record(found)["value"] == metric.score(found)


def test_predictions_stop_at_a_limit(task: Task, model: nn.Module) -> None:
    found = list(predictions(run(model), task, "search", batch_size=8, limit=10))
    assert [each.items for each in found] == [8, 2]
    assert [item_count(each.inputs) for each in found] == [8, 2]

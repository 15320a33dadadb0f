"""Run a network over a split: the one loop over batches of everything that evaluates."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from haq.execution.structures import Structure, device_of, item_count, take, to_device
from haq.tasks.base import SplitName, Task

Runner = Callable[[Structure], Structure]
"""A network as a function from inputs, on any device, to outputs."""


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a network answers to a batch.

    Attributes:
        inputs: As the task gave them.
        outputs: The network's.
        targets: On the device of the outputs.
        items: The number of items in the batch.
    """

    inputs: Structure
    outputs: Structure
    targets: Structure
    items: int


def predictions(
    run: Runner, task: Task, split: SplitName, *, batch_size: int, limit: int | None = None
) -> Iterator[Prediction]:
    """Iterate over a network's outputs on a split, batch by batch, without gradients.

    Args:
        run: The network.
        task: Gives the data.
        split: Which of its splits.
        batch_size: Items in a batch, at most.
        limit: Items in all, at most; None for the whole split.
    """
    left = task.size(split) if limit is None else limit
    for inputs, targets in task.batches(split, batch_size=batch_size):
        items = item_count(inputs)
        if items > left:
            items, inputs, targets = left, take(inputs, slice(left)), take(targets, slice(left))  # noqa: PLW2901
        left -= items
        with torch.no_grad():
            outputs = run(inputs)
        yield Prediction(inputs, outputs, to_device(targets, device_of(outputs)), items)
        if not left:
            return


def score(run: Runner, task: Task, split: SplitName, *, batch_size: int) -> float:
    """Return a network's score on a split; higher is better."""
    meter = task.meter()
    for each in predictions(run, task, split, batch_size=batch_size):
        meter.update(each.outputs, each.targets)
    return task.metric.score(meter.compute())

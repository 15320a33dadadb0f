"""Loop over the batches of a split that every evaluation of a network uses."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from haq.execution.memory import within_memory
from haq.execution.structures import Structure, device_of, item_count, take, to_device
from haq.tasks.base import SplitName, Task
from haq.tasks.carried_state import CarriedState, largest_batch

Runner = Callable[[Structure], Structure]
"""A network as a function from inputs, on any device, to outputs."""


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Outputs of a network for one batch.

    Attributes:
        inputs: Inputs of n items, as the task returned them, with the state of the items that they continue.
        outputs: Outputs of the network, without gradient.
        targets: Targets, on the device of the outputs.
        items: Number n of items in the batch.
    """

    inputs: Structure
    outputs: Structure
    targets: Structure
    items: int


def predictions(
    run: Runner, task: Task, split: SplitName, *, batch_size: int, limit: int | None = None
) -> Iterator[Prediction]:
    """Iterate over the outputs of a network on a split, batch by batch, without gradients.

    A batch that memory does not suffice for is divided, with a warning.

    The state of networks that have one is carried from batch to batch; see `haq.tasks.optional.StatefulTask`.

    Args:
        run: Network as a function.
        task: Task with the data.
        split: Name of the split.
        batch_size: Largest number of items in a batch.
        limit: Largest number of items in all; None for the whole split.

    Yields:
        Inputs, outputs and targets of one batch.

    Raises:
        UserError: Items cannot be read, or memory does not suffice for a single item.
    """
    left = task.size(split) if limit is None else limit
    carried, run = CarriedState(task, split), within_memory(run)
    for batch, targets in task.batches(split, batch_size=largest_batch(task, split, batch_size)):
        items, inputs = item_count(batch), batch
        if items > left:
            items, inputs, targets = left, take(batch, slice(left)), take(targets, slice(left))  # noqa: PLW2901
        left -= items
        inputs = carried.enter(inputs)
        with torch.no_grad():
            outputs = run(inputs)
        carried.leave(outputs)
        yield Prediction(inputs, outputs, to_device(targets, device_of(outputs)), items)
        if not left:
            return


def score(run: Runner, task: Task, split: SplitName, *, batch_size: int) -> float:
    """Compute the score of a network on a split.

    Args:
        run: Network as a function.
        task: Task with the data and the metric.
        split: Name of the split; it is not empty.
        batch_size: Largest number of items in a batch.

    Returns:
        The score; higher is better.

    Raises:
        UserError: Items cannot be read.
    """
    meter = task.meter()
    for each in predictions(run, task, split, batch_size=batch_size):
        meter.update(each.outputs, each.targets)
    return task.metric.score(meter.compute())

"""The `Task` protocol: data in disjoint splits, a loss, a metric, and a distance between outputs.

Inputs, targets and outputs may be structured; `haq.execution.structures` says how. A language model that is called with
keyword arguments has dicts of tensors as inputs; a detector may answer with a tuple of tensors, a dict, or a list with
one entry for each image.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Generator, Tensor, nn

from haq.execution.structures import Structure
from haq.tasks.distances import Distance
from haq.tasks.metrics import Meter, Metric

SplitName = Literal["train", "calibration", "search", "selection", "report"]
"""The reward sees `search`; `selection`, which may be missing, decides between the best; `report` decides nothing."""
Batch = tuple[Structure, Structure]
"""Inputs and targets of n items."""


class Task(Protocol):
    """Data, loss, metric and distance of what a network was trained for."""

    @property
    def name(self) -> str:
        """As given on the command line, such as `digits` or `imagefolder:DIR`."""
        ...

    @property
    def metric(self) -> Metric:
        """Name, range, direction and format of the metric."""
        ...

    def size(self, split: SplitName) -> int:
        """Return the number of items in a split; 0 where the task has none."""
        ...

    def batches(self, split: SplitName, *, batch_size: int) -> Iterator[Batch]:
        """Iterate over a whole split once, in a fixed order."""
        ...

    def shuffled(self, split: SplitName, *, batch_size: int, generator: Generator) -> Iterator[Batch]:
        """Iterate over a whole split once, in an order drawn from the generator; for training."""
        ...

    def example(self) -> Structure:
        """Return the first calibration input as a batch of one: what a network is traced with."""
        ...

    def prepare(self) -> None:
        """Read the data that a search will read, so that a broken file is found before it starts."""
        ...

    def validate(self, model: nn.Module) -> None:
        """Run a network on one item and check its outputs.

        Raises:
            UserError: The network does not fit the task.
        """
        ...

    def loss(self, outputs: Structure, targets: Structure) -> Tensor:
        """Return the scalar that training minimises: the mean over the batch."""
        ...

    def distance(self, outputs: Structure, reference: Structure) -> Distance:
        """Return how far a network's outputs are from reference outputs for the same items, summed over the batch."""
        ...

    def meter(self) -> Meter:
        """Return a fresh meter of the metric."""
        ...

    def description(self) -> Mapping[str, Any]:
        """Return what a run records about its data: sizes, seeds, transforms, class names, origin of the splits."""
        ...


@runtime_checkable
class GradedTask(Protocol):
    """Optional ability of a task: each item is either right or wrong, and the metric is the share that is right."""

    def correct(self, outputs: Structure, targets: Structure) -> Tensor:
        """Return whether each item is right, bool [n]."""
        ...

    def chance_warning(self, score: float, *, items: int) -> str | None:
        """Return a warning where guessing reaches a score on so many items too easily."""
        ...


@runtime_checkable
class DistributionTask(Protocol):
    """Optional ability of a task: outputs are logits; where they are not, distances are those of plain values."""

    def logits(self, outputs: Structure) -> Tensor:
        """Return logits [n, classes]."""
        ...


@runtime_checkable
class RecalibratableTask(Protocol):
    """Optional ability of a task: it has other items to calibrate on."""

    def with_other_calibration(self) -> tuple[Task, int] | None:
        """Return the task with other calibration items, and how many of them both have; None where there are none."""
        ...


def float_warning(task: Task, score: float, split: SplitName) -> str | None:
    """Return a warning where the float network's score on a split is no better than chance."""
    if not isinstance(task, GradedTask):
        return None
    warning = task.chance_warning(score, items=task.size(split))
    return f"the float network's {warning}" if warning else None

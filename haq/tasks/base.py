"""What a task is to the rest of the program: data in disjoint splits, a loss, and a score where higher is better."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Protocol

from torch import Generator, Tensor

SplitName = Literal["train", "calibration", "search", "selection", "report"]
"""The reward sees `search`; `selection`, which may be missing, decides between the best; `report` decides nothing."""
Batch = tuple[Tensor, Tensor]
"""Inputs [n, ...] and targets [n, ...]."""


class Metric(Protocol):
    """Adds up a score batch by batch."""

    def update(self, outputs: Tensor, targets: Tensor) -> None: ...

    def compute(self) -> float:
        """The score so far; higher is better, accuracies in [0, 1]."""
        ...


class Task(Protocol):
    """Data, loss and metric of one thing that a network was trained for."""

    @property
    def name(self) -> str:
        """As given on the command line, such as `digits` or `imagefolder:DIR`."""
        ...

    @property
    def metric_name(self) -> str:
        """`accuracy`, or what the score is called in this task."""
        ...

    def size(self, split: SplitName) -> int:
        """Number of items in a split; 0 where the task has none."""
        ...

    def batches(self, split: SplitName, *, batch_size: int) -> Iterator[Batch]:
        """The whole split once, in a fixed order."""
        ...

    def shuffled(self, split: SplitName, *, batch_size: int, generator: Generator) -> Iterator[Batch]:
        """The whole split once, in an order drawn from the generator; for training."""
        ...

    def example(self) -> Tensor:
        """The first calibration input as a batch of one: what a network is traced with."""
        ...

    def prepare(self) -> None:
        """Read now what a search will read later, so that a broken file is found before the hours are spent."""
        ...

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The scalar that training minimises: mean over the batch."""
        ...

    def metric(self) -> Metric:
        """A fresh score."""
        ...

    def description(self) -> Mapping[str, Any]:
        """What a run writes down about its data: sizes, seeds, transforms, class names, and where the splits begin."""
        ...

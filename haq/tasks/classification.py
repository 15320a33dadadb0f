"""Classification: cross entropy, accuracy, and whether an accuracy is more than luck."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from scipy.stats import binom
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from haq.errors import UserError
from haq.execution.networks import run_network
from haq.tasks.base import Batch, SplitName
from haq.tasks.items import Split, StoredSplit

CHANCE_PROBABILITY = 0.01
"""An accuracy that guessing reaches more often than this is called chance."""


class Accuracy:
    """The share of items whose highest output is the target's."""

    def __init__(self) -> None:
        self.correct = 0
        self.count = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Outputs [n, classes], targets [n]."""
        self.correct += int((outputs.argmax(dim=1) == targets).sum())
        self.count += len(targets)

    def compute(self) -> float:
        """In [0, 1]."""
        return self.correct / self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationTask:
    """Items with one class each; images come channels-last in memory.

    `exact_classes` tells whether the network must have just these outputs, or may have more than the data show.
    """

    name: str
    splits: Mapping[SplitName, Split]
    num_classes: int
    facts: Mapping[str, Any]
    """What `description` adds: class names, seeds, transform, how the splits were drawn."""
    exact_classes: bool = True

    @property
    def metric_name(self) -> str:
        return "accuracy"

    def size(self, split: SplitName) -> int:
        return len(self.splits[split]) if split in self.splits else 0

    def batches(self, split: SplitName, *, batch_size: int) -> Iterator[Batch]:
        return self._in_order(split, torch.arange(self.size(split)), batch_size)

    def shuffled(self, split: SplitName, *, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        return self._in_order(split, torch.randperm(self.size(split), generator=generator), batch_size)

    def example(self) -> Tensor:
        return self.splits["calibration"].items[0][0].unsqueeze(0)

    def prepare(self) -> None:
        for name, split in self.splits.items():
            if name != "train" and isinstance(split, StoredSplit):
                split.store()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(outputs, targets)

    def metric(self) -> Accuracy:
        return Accuracy()

    def description(self) -> Mapping[str, Any]:
        return {"name": self.name, "num_classes": self.num_classes, **self.facts}

    def _in_order(self, split: SplitName, order: Tensor, batch_size: int) -> Iterator[Batch]:
        for indices in torch.split(order, batch_size) if len(order) else ():
            yield self.splits[split].take(indices)


def require_outputs(model: nn.Module, task: ClassificationTask) -> None:
    """Raises UserError where a network's outputs are not the classes of the data; runs it once, on one item."""
    with torch.no_grad():
        outputs = run_network(model, task.example())
    shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:
        raise UserError(f"the network answers one item with {shape}; {task.name} needs a tensor of one row of scores")
    count = outputs.shape[1]
    if count < task.num_classes or (task.exact_classes and count > task.num_classes):
        raise UserError(
            f"the network has {count} outputs and {task.name} has {task.num_classes} classes; "
            "give weights for these classes, or list the classes of all outputs in classes.txt"
        )


def chance_warning(accuracy: float, num_classes: int, n: int) -> str | None:
    """A warning where guessing among the classes would do as well with a probability above 1 % (binomial test).

    >>> chance_warning(0.9, 10, 100) is None
    True
    >>> print(chance_warning(0.12, 10, 100))  # doctest: +ELLIPSIS
    accuracy 12.0 % on 100 items is no better than guessing among 10 classes: are the weights of this model loaded, ...
    """
    correct = round(accuracy * n)
    if binom.sf(correct - 1, n, 1 / num_classes) <= CHANCE_PROBABILITY:
        return None
    return (
        f"accuracy {100 * accuracy:.1f} % on {n} items is no better than guessing among {num_classes} classes: are the "
        "weights of this model loaded, are the classes in the order of its outputs, are size and normalization right "
        "(--resize, --crop, --normalize)?"
    )

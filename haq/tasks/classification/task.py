"""Classification tasks: cross entropy, accuracy, and a test of whether an accuracy is better than chance."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from scipy.stats import binom
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from haq.errors import UserError
from haq.execution.networks import run_network
from haq.execution.structures import Structure
from haq.tasks.distances import Distance, distribution_distance
from haq.tasks.item_task import ItemTask
from haq.tasks.metrics import ACCURACY, Metric

CHANCE_PROBABILITY = 0.01
"""Probability above which an accuracy that guessing reaches counts as chance."""


class Accuracy:
    """Meter of the share of items whose highest output is that of the target.

    Attributes:
        correct: Number of items that are right.
        count: Number of items.
    """

    def __init__(self) -> None:
        self.correct = 0
        self.count = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch.

        Args:
            outputs: Scores of the classes, [n, classes].
            targets: Class of each item, [n].
        """
        self.correct += int((outputs.argmax(dim=1) == targets).sum())
        self.count += len(targets)

    def compute(self) -> float:
        """Return the accuracy in [0, 1]."""
        return self.correct / self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationTask(ItemTask):
    """Task whose items each have one class; batches of images are channels-last in memory.

    Args:
        name: Name for the command line and for messages.
        splits: Items of each split.
        num_classes: Number of classes in the data.
        facts: Further entries of `description`: class names, seeds, transform, rule of the splits.
        exact_classes: Whether the network must have `num_classes` outputs; otherwise it may have more.
    """

    num_classes: int
    exact_classes: bool = True

    @property
    def metric(self) -> Metric:
        return ACCURACY

    def validate(self, model: nn.Module) -> None:
        """Run a network on one item and check that its outputs are the classes of the data.

        Args:
            model: Float network, on the CPU and in evaluation mode.

        Raises:
            UserError: The outputs are not one row of scores, or not as many as there are classes.
        """
        with torch.no_grad():
            outputs = run_network(model, self.example())
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        if not isinstance(outputs, Tensor) or outputs.ndim != 2:
            raise UserError(
                f"the network answers one item with {shape}; {self.name} needs a tensor of one row of scores"
            )
        count = outputs.shape[1]
        if count < self.num_classes or (self.exact_classes and count > self.num_classes):
            raise UserError(
                f"the network has {count} outputs and {self.name} has {self.num_classes} classes; "
                "give weights for these classes, or list the classes of all outputs in classes.txt"
            )

    def loss(self, outputs: Structure, targets: Tensor) -> Tensor:
        """Compute the mean cross entropy.

        Args:
            outputs: Logits [n, classes].
            targets: Class of each item, [n].

        Returns:
            The loss in nats, [].

        Raises:
            UserError: The outputs are not a tensor; some networks return others while they are trained.
        """
        if not isinstance(outputs, Tensor):
            kind = type(outputs).__name__
            raise UserError(f"the network answers with a {kind} while it trains; {self.name} takes one tensor")
        return cross_entropy(outputs, targets)

    def distance(self, outputs: Tensor, reference: Tensor) -> Distance:
        return distribution_distance(outputs, reference)

    def meter(self) -> Accuracy:
        return Accuracy()

    def logits(self, outputs: Tensor) -> Tensor:
        return outputs.float()

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.argmax(dim=1) == targets

    def same_predictions(self, outputs: Tensor, reference: Tensor) -> Tensor:
        return outputs.argmax(dim=1) == reference.argmax(dim=1)

    def chance_warning(self, score: float, *, items: int) -> str | None:
        return chance_warning(score, self.num_classes, items)

    def description(self) -> Mapping[str, Any]:
        return {"name": self.name, "num_classes": self.num_classes, **self.facts}


def chance_warning(accuracy: float, num_classes: int, n: int) -> str | None:
    """Return a warning if guessing reaches an accuracy with a probability above 1 % (binomial test).

    Args:
        accuracy: Accuracy in [0, 1].
        num_classes: Number of classes.
        n: Number of items.

    Returns:
        The warning; None if the accuracy is better than chance.

    Examples:
        >>> chance_warning(0.9, 10, 100) is None
        True
        >>> print(chance_warning(0.12, 10, 100))  # doctest: +ELLIPSIS
        accuracy 12.0 % on 100 items is no better than guessing among 10 classes: are the weights of this model ...
    """
    correct = round(accuracy * n)
    if binom.sf(correct - 1, n, 1 / num_classes) <= CHANCE_PROBABILITY:
        return None
    return (
        f"accuracy {100 * accuracy:.1f} % on {n} items is no better than guessing among {num_classes} classes: are the "
        "weights of this model loaded, are the classes in the order of its outputs, are size and normalization right "
        "(--resize, --crop, --normalize)?"
    )

"""Base class of tasks whose splits are data sets of numbered items."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from haq.tasks.base import Batch, SplitName
from haq.tasks.items import ItemsFrom, Split, StoredSplit


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemTask:
    """The part of a task that reads its data; metric, loss and distance are left to subclasses.

    Args:
        name: Name for the command line and for messages.
        splits: Items of each split.
        facts: Further entries of `description`: class names, seeds, transform, rule of the splits.
    """

    name: str
    splits: Mapping[SplitName, Split]
    facts: Mapping[str, Any]

    def size(self, split: SplitName) -> int:
        """Return the number of items of a split.

        Args:
            split: Name of the split.

        Returns:
            The number of items; 0 for a missing split.
        """
        return len(self.splits[split]) if split in self.splits else 0

    def batches(self, split: SplitName, *, batch_size: int) -> Iterator[Batch]:
        """Iterate over a split in order.

        Args:
            split: Name of the split.
            batch_size: Largest number of items in a batch.

        Returns:
            Iterator over (inputs, targets).
        """
        return self._in_order(split, torch.arange(self.size(split)), batch_size)

    def shuffled(self, split: SplitName, *, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Iterate over a split in random order.

        Args:
            split: Name of the split.
            batch_size: Largest number of items in a batch.
            generator: Random number generator on the CPU.

        Returns:
            Iterator over (inputs, targets).
        """
        return self._in_order(split, torch.randperm(self.size(split), generator=generator), batch_size)

    def example(self) -> Tensor:
        return self.splits["calibration"].items[0][0].unsqueeze(0)

    def prepare(self) -> None:
        for name, split in self.splits.items():
            if name != "train" and isinstance(split, StoredSplit):
                split.store()

    def with_other_calibration(self) -> tuple[Self, int] | None:
        """Return the task with as many calibration items from the other end of its train split.

        Returns:
            The task, and the number of items that both calibration splits have; None if train has no further items.
        """
        count, size = self.size("calibration"), self.size("train")
        if size <= count:
            return None
        other = StoredSplit(ItemsFrom(self.splits["train"].items, size - count))
        return replace(self, splits={**self.splits, "calibration": other}), max(0, 2 * count - size)

    def _in_order(self, split: SplitName, order: Tensor, batch_size: int) -> Iterator[Batch]:
        for indices in torch.split(order, batch_size) if len(order) else ():
            yield self.splits[split].take(indices)

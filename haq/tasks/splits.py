"""Disjoint splits drawn from labelled items: reproducible by seed, with balanced classes."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from haq.errors import UserError
from haq.tasks.base import SplitName
from haq.tasks.items import Target
from haq.tasks.options import TaskOptions

SEARCH_SHARE = 0.4
"""Default share of the items of val, or of train, that are drawn for the search."""
MAX_SEARCH_ITEMS = 1000
"""Largest default number of items that are drawn for the search."""
SELECTION_SHARE = 0.2
"""Share of the items drawn for the search that become the selection split."""
RULE = (
    "items of each class in random order (numpy.random.default_rng(split_seed)), classes interleaved; "
    "search, selection and report are consecutive parts of val, or search and selection are the first of train; "
    "calibration is the first of what is left of train"
)
"""Description of how splits are drawn, which runs record."""

IntArray = NDArray[np.int64]
"""Array of labels or indices, int64."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Labelled items that splits are drawn from.

    Attributes:
        keys: Name of each item in its data set, from which the hash of a split is computed.
        labels: Class of each item; splits have the classes in proportion.
        read: Function that reads input and target at an index; it raises UserError for items that cannot be read.
    """

    keys: Sequence[str]
    labels: IntArray
    read: Callable[[int], tuple[Tensor, Target]]

    @classmethod
    def of_classes(cls, keys: Sequence[str], labels: IntArray, read_input: Callable[[int], Tensor]) -> "Pool":
        """Return a pool whose targets are the classes.

        Args:
            keys: Name of each item in its data set.
            labels: Class of each item.
            read_input: Function that reads the input at an index.

        Returns:
            The pool.
        """
        return cls(keys, labels, lambda index: (read_input(index), int(labels[index])))


@dataclass(frozen=True, slots=True)
class Drawn:
    """Items of a pool at some indices, in that order.

    Attributes:
        pool: Pool of the items.
        indices: Indices of the items in the pool.
    """

    pool: Pool
    indices: IntArray

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> tuple[Tensor, Target]:
        return self.pool.read(int(self.indices[index]))

    def facts(self) -> dict[str, Any]:
        """Return the size, and a hash that differs if other items, or another order, were drawn.

        Returns:
            `size` and `sha256`.
        """
        digest = hashlib.sha256("\n".join(self.pool.keys[place] for place in self.indices).encode())
        return {"size": len(self), "sha256": digest.hexdigest()}


def balanced_order(labels: IntArray, generator: np.random.Generator) -> IntArray:
    """Draw a random permutation of which every prefix has the classes in proportion.

    Args:
        labels: Class of each item, [n].
        generator: Random number generator.

    Returns:
        Indices of the items, [n].

    Examples:
        >>> labels = np.array([0, 0, 0, 0, 1, 1])
        >>> labels[balanced_order(labels, np.random.default_rng(0))]
        array([0, 0, 1, 0, 0, 1])
    """
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        position[members] = (generator.permutation(len(members)) + generator.random()) / len(members)
    return np.argsort(position, kind="stable")


def draw_splits(train: Pool, val: Pool, options: TaskOptions) -> dict[SplitName, Drawn]:
    """Draw the splits of a task; calibration is part of train, the others are disjoint.

    The last fifth of the items that are drawn for the search becomes `selection`, which no reward uses; of fewer than
    five items there is no selection split.

    Args:
        train: Items of the train part.
        val: Items of the val part.
        options: Sizes, seed and source of the search split.

    Returns:
        Items by split.

    Raises:
        UserError: There are too few items.
    """
    generator = np.random.default_rng(options.split_seed)
    from_train, from_val = (balanced_order(pool.labels, generator) for pool in (train, val))
    if options.search_from == "train":
        search, from_train = _cut(from_train, _search_size(len(from_train), options), source="train")
        search_pool = train
    else:
        search, from_val = _cut(from_val, _search_size(len(from_val), options), source="val")
        search_pool = val
    report, _ = _cut(from_val, options.report_images or len(from_val), source="val")
    calibration = from_train[: options.calibration_images]
    search, selection = np.split(search, [len(search) - int(SELECTION_SHARE * len(search))])
    drawn: dict[SplitName, Drawn] = {
        "train": Drawn(train, from_train),
        "calibration": Drawn(train, calibration),
        "search": Drawn(search_pool, search),
        "selection": Drawn(search_pool, selection),
        "report": Drawn(val, report),
    }
    return {name: items for name, items in drawn.items() if len(items) or name != "selection"}


def _search_size(available: int, options: TaskOptions) -> int:
    return options.search_images or max(1, min(MAX_SEARCH_ITEMS, int(available * SEARCH_SHARE)))


def _cut(order: IntArray, size: int, *, source: str) -> tuple[IntArray, IntArray]:
    if not 0 < size <= len(order):
        raise UserError(f"{size} images asked of {source}, which has {len(order)} left; ask for fewer or add images")
    return order[:size], order[size:]

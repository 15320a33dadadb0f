"""Items of a split: read once on first use and stored, in memory if they fit, else in a memory-mapped file."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from math import prod
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from haq.errors import UserError
from haq.execution.structures import Structure, map_tensors, take
from haq.runs.cache import cache_dir
from haq.tasks.base import Batch

MEMORY_LIMIT_BYTES = 2 * 1024**3
"""Size above which a split is stored in a file; 3,500 images of 3x224x224."""
MAX_COUNTED = 19
"""Number of further unreadable items to look for after the first, to tell one broken file from a broken data set."""


Target = Any
"""Target of one item: a class number, or a structure of tensors, such as the boxes in an image."""


class Items(Protocol):
    """Data set with numbered items, such as a map-style data set of torch.

    Both methods are called often; items are read one by one, in any order, and may be read more than once.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Tensor, Target]:
        """Read an item.

        Args:
            index: Index of the item, from 0.

        Returns:
            Input of any shape, without a batch dimension, and target of the item.

        Raises:
            UserError: The item cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class ItemsFrom:
    """Items of a data set from a position on.

    Attributes:
        items: Data set.
        first: Position of the first item.
    """

    items: Items
    first: int

    def __len__(self) -> int:
        return len(self.items) - self.first

    def __getitem__(self, index: int, /) -> tuple[Tensor, Target]:
        return self.items[self.first + index]


class Split(Protocol):
    """Items of one split, read in batches.

    Attributes:
        items: Data set.
    """

    items: Items

    def __len__(self) -> int: ...

    def take(self, indices: Tensor) -> Batch:
        """Read a batch.

        Args:
            indices: Indices of the items, [n].

        Returns:
            Inputs [n, ...], images channels-last in memory, and targets: classes [n], or a list of the items' targets.
            The caller may overwrite both.
        """
        ...


class StoredSplit:
    """Split whose items are the same each time they are read; they are stored on first use.

    Args:
        items: Data set.
        memory_limit_bytes: Size above which items are stored in a file.

    Attributes:
        items: Data set.
    """

    def __init__(self, items: Items, *, memory_limit_bytes: int = MEMORY_LIMIT_BYTES) -> None:
        self.items = items
        self._memory_limit_bytes = memory_limit_bytes

    def __len__(self) -> int:
        return len(self.items)

    def take(self, indices: Tensor) -> Batch:
        inputs, targets = self.stored
        return _channels_first(inputs[indices]), map_tensors(torch.clone, take(targets, indices))

    def store(self) -> None:
        """Read all items now.

        Raises:
            UserError: An item cannot be read.
        """
        _ = self.stored

    @cached_property
    def stored(self) -> Batch:
        """All inputs, images as [n, h, w, c], and targets: classes [n], or a list.

        Raises:
            UserError: Inputs differ in shape or dtype, or items cannot be read; the message names the first and counts
                them.
        """
        example = self._read(0)[0]
        first = _channels_last(example)
        inputs = _storage((len(self.items), *first.shape), first.dtype, memory_limit_bytes=self._memory_limit_bytes)
        targets = []
        for index in range(len(self.items)):
            item, target = self._read(index)
            targets.append(target)
            _require_alike(item, index, example)
            inputs[index] = _channels_last(item)
        return inputs, _collated(targets)

    def _read(self, index: int) -> tuple[Tensor, Target]:
        try:
            return self.items[index]
        except UserError as error:
            more = list(islice(self._unreadable(index + 1), MAX_COUNTED))
            if not more:
                raise
            count = f"at least {1 + MAX_COUNTED}" if len(more) == MAX_COUNTED else str(1 + len(more))
            raise UserError(f"{error}; {count} of {len(self.items)} items cannot be used") from error

    def _unreadable(self, start: int) -> Iterator[int]:
        for index in range(start, len(self.items)):
            try:
                self.items[index]
            except UserError:
                yield index


class FreshSplit:
    """Split whose items may differ each time they are read, such as a user's augmented training set.

    Args:
        items: Data set.

    Attributes:
        items: Data set.
    """

    def __init__(self, items: Items) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def take(self, indices: Tensor) -> Batch:
        inputs, targets = zip(*(self.items[index] for index in indices.tolist()), strict=True)
        for index, item in zip(indices.tolist(), inputs, strict=True):
            _require_alike(item, index, inputs[0])
        batch = torch.stack([_channels_last(item) for item in inputs])
        return _channels_first(batch), _collated(targets)


def _collated(targets: Sequence[Target]) -> Structure:
    """Return the targets of several items: classes as a tensor [n], others as a list."""
    if all(isinstance(target, int) for target in targets):
        return torch.tensor(targets, dtype=torch.int64)
    return list(targets)


def _require_alike(item: Tensor, index: int, example: Tensor) -> None:
    """Raise UserError if an input cannot be in one batch with an example."""
    if item.dtype != example.dtype:
        raise UserError(f"item {index} is {item.dtype} where others are {example.dtype}; make all items of one dtype")
    if item.shape != example.shape:
        raise UserError(
            f"item {index} has shape {tuple(item.shape)} where others have {tuple(example.shape)}; "
            "give --resize and --crop, or a transform that makes all alike"
        )


def _channels_last(item: Tensor) -> Tensor:
    return item.movedim(0, -1) if item.ndim == 3 else item  # an image


def _channels_first(batch: Tensor) -> Tensor:
    return batch.movedim(-1, 1) if batch.ndim == 4 else batch  # a view: memory stays channels-last


def _storage(shape: Iterable[int], dtype: torch.dtype, *, memory_limit_bytes: int) -> Tensor:
    """Allocate an uninitialized tensor, above the limit in an unnamed file that is removed when the process ends."""
    size_bytes = prod(shape) * dtype.itemsize
    if size_bytes <= memory_limit_bytes:
        return torch.empty(*shape, dtype=dtype)
    folder = cache_dir()
    free_bytes = shutil.disk_usage(folder).free
    if size_bytes > free_bytes:
        raise UserError(
            f"the decoded images need {size_bytes / 1e9:.1f} GB and {folder} has {free_bytes / 1e9:.1f} GB free; "
            "use fewer images or set HAQ_CACHE to a roomier folder"
        )
    with tempfile.TemporaryFile(dir=folder) as file:
        bytes_: NDArray[np.uint8] = np.memmap(file, dtype=np.uint8, mode="w+", shape=(size_bytes,))
    return torch.from_numpy(bytes_).view(dtype).view(*shape)

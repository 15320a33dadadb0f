"""User data: a mapping of data sets that yield (input, label), or of loaders of batches of them."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler, default_collate

from haq.errors import UserError
from haq.execution.user_code import call_user_code, one_line, torch_state_kept
from haq.tasks.base import SplitName, Task
from haq.tasks.items import FreshSplit, Split, StoredSplit
from haq.tasks.tensor_kinds import unsupported_kind

REQUIRED: tuple[SplitName, ...] = ("calibration", "search", "report")
EXPECTED = (
    "a mapping with torch data sets or loaders 'calibration', 'search', 'report' and, if there are more, 'selection' "
    "and 'train'"
)
"""Description of a valid mapping, for error messages."""


@dataclass(frozen=True, slots=True)
class UserItems:
    """Data set of a user, whose items are checked when they are read.

    Attributes:
        items: Data set with a length and numbered items.
        where: Prefix of error messages.
    """

    items: Any
    where: str

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]:
        try:
            with torch_state_kept():
                item = self.items[index]
        except Exception as error:  # a user's code may raise anything
            raise UserError(f"{self.where}: item {index} raised {one_line(error)}") from error
        return self._input_and_label(item, index)

    def _input_and_label(self, item: Any, index: int) -> tuple[Tensor, int]:
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise UserError(f"{self.where}: item {index} is a {type(item).__name__}; expected (input, label)")
        value, label = item
        if not isinstance(value, Tensor):
            raise UserError(f"{self.where}: input {index} is a {type(value).__name__}; expected a torch tensor")
        if kind := unsupported_kind(value):
            raise UserError(f"{self.where}: input {index} is {kind}; expected a dense tensor of real numbers")
        number = _number(label)
        if not isinstance(number, int) or number < 0:
            shown = " ".join(repr(label).split())[:100]
            raise UserError(f"{self.where}: label {index} is {shown}; expected a class number from 0 on")
        return value.detach(), number


def read_user_data(spec: str, *, similar: Collection[str] = ()) -> dict[SplitName, Split] | Task:
    """Read user data: their splits, or a whole task.

    Args:
        spec: Callable that returns the splits or a task, as `package.module:callable`.
        similar: See `call_user_code`.

    Returns:
        Data sets by split, or the task.

    Raises:
        UserError: The callable fails, or its result is not a valid mapping.
    """
    sets = call_user_code(spec, similar=similar)
    if isinstance(sets, Task):
        return sets
    if not isinstance(sets, Mapping):
        raise UserError(f"{spec} returned a {type(sets).__name__}; expected {EXPECTED}, or a task")
    return user_splits(sets, spec)


def user_splits(sets: Mapping[str, Any], name: str) -> dict[SplitName, Split]:
    """Check a mapping of data sets or loaders; the splits may overlap.

    Args:
        sets: Data sets or loaders by the names of their splits.
        name: Prefix of error messages.

    Returns:
        Data sets by split.

    Raises:
        UserError: A split is missing, unknown, empty or of another type.
    """
    missing = [name for name in REQUIRED if name not in sets]
    unknown = [name for name in sets if name not in get_args(SplitName)]
    if missing or unknown:
        problem = f"no {missing[0]!r}" if missing else f"an unknown {unknown[0]!r}"
        raise UserError(f"{name}: a mapping with {problem}; expected {EXPECTED}")
    return {split: _split(split, sets[split], name) for split in get_args(SplitName) if split in sets}


def unloaded(source: Any, where: str) -> Any:
    """Return the items of a loader; anything else is returned unchanged.

    They are those of its data set if it collates by default and draws each item once; otherwise the contents of its
    batches, which are read once.

    Args:
        source: Loader or data set.
        where: Prefix of error messages.

    Returns:
        Data set, or list of items.

    Raises:
        UserError: A batch is not (inputs, labels).
    """
    if not isinstance(source, DataLoader):
        return source
    data = source.dataset
    is_plain = not isinstance(data, IterableDataset) and source.collate_fn is default_collate
    return data if is_plain and _visits_all(source) else list(_batched_items(source, where))


def _visits_all(loader: DataLoader[Any]) -> bool:
    """Return whether a loader draws every item of its data set once, except for a dropped incomplete last batch."""
    if loader.batch_size is None and loader.batch_sampler is not None:  # a batch sampler of the user
        return False
    sampler = loader.sampler
    if isinstance(sampler, RandomSampler):
        return not sampler.replacement and sampler.num_samples == len(sampler.data_source)
    return isinstance(sampler, SequentialSampler)


def _batched_items(loader: DataLoader[Any], where: str) -> Iterator[tuple[Any, Any]]:
    try:
        for batch in loader:
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise UserError(f"{where}: a batch is a {type(batch).__name__}; expected (inputs, labels)")
            if loader.batch_size is None and loader.batch_sampler is None:
                yield batch[0], batch[1]
            else:
                yield from zip(*batch, strict=True)
    except UserError:
        raise
    except Exception as error:  # a user's code may raise anything
        raise UserError(f"{where}: a batch raised {one_line(error)}") from error


def _number(label: Any) -> Any:
    """Convert a NumPy or torch scalar to a Python number; anything else is returned unchanged."""
    if isinstance(label, Tensor):
        return label if unsupported_kind(label) or label.numel() != 1 else label.item()
    return label.item() if isinstance(label, np.generic) else label


def _split(name: SplitName, source: Any, spec: str) -> Split:
    where = f"{spec}, {name}"
    items = unloaded(source, where)
    if not (hasattr(items, "__len__") and hasattr(items, "__getitem__")):
        raise UserError(f"{where} is a {type(items).__name__}; expected a data set with a length and numbered items")
    if len(items) == 0:
        raise UserError(f"{where} is empty; give at least one item")
    checked = UserItems(items, where)
    return FreshSplit(checked) if name == "train" else StoredSplit(checked)

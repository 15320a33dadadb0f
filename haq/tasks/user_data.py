"""Data that a user's own function hands over: a mapping of data sets that yield (input, label)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from torch import Tensor

from haq.errors import UserError
from haq.tasks.base import SplitName
from haq.tasks.items import FreshSplit, Split, StoredSplit
from haq.tensor_kinds import unsupported_kind
from haq.user_code import call_user_code, one_line

REQUIRED: tuple[SplitName, ...] = ("calibration", "search", "report")
EXPECTED = (
    "a mapping with torch data sets 'calibration', 'search', 'report' and, if there are more, 'selection' and 'train'"
)


@dataclass(frozen=True, slots=True)
class UserItems:
    """A user's data set whose items are checked as they are read; `where` begins every complaint."""

    items: Any
    where: str

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]:
        try:
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


def read_user_data(spec: str) -> dict[SplitName, Split]:
    """The splits of `package.module:callable`; overlap is his. Raises UserError on wrong types and empty sets."""
    sets = call_user_code(spec)
    if not isinstance(sets, Mapping):
        raise UserError(f"{spec} returned a {type(sets).__name__}; expected {EXPECTED}")
    missing = [name for name in REQUIRED if name not in sets]
    unknown = [name for name in sets if name not in get_args(SplitName)]
    if missing or unknown:
        problem = f"no {missing[0]!r}" if missing else f"an unknown {unknown[0]!r}"
        raise UserError(f"{spec} returned a mapping with {problem}; expected {EXPECTED}")
    return {name: _split(name, sets[name], spec) for name in get_args(SplitName) if name in sets}


def _number(label: Any) -> Any:
    """A scalar of NumPy or torch as Python's number; anything else as it is."""
    if isinstance(label, Tensor):
        return label if unsupported_kind(label) or label.numel() != 1 else label.item()
    return label.item() if isinstance(label, np.generic) else label


def _split(name: SplitName, items: Any, spec: str) -> Split:
    where = f"{spec}, {name}"
    if not (hasattr(items, "__len__") and hasattr(items, "__getitem__")):
        raise UserError(f"{where} is a {type(items).__name__}; expected a data set with a length and numbered items")
    if len(items) == 0:
        raise UserError(f"{where} is empty; give at least one item")
    checked = UserItems(items, where)
    return FreshSplit(checked) if name == "train" else StoredSplit(checked)

"""The state that is carried over batches of any size."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from haq.tasks.base import Batch, SplitName
from haq.tasks.carried_state import CarriedState, largest_batch
from haq.tasks.predictions import predictions


class Counting:
    """Items k in streams; the state of an item is the sum of the numbers of the items in its stream up to it."""

    def __init__(self, items: int, streams: int | None) -> None:
        self._items, self._streams = items, streams

    def size(self, _: SplitName) -> int:
        return self._items

    def streams(self, _: SplitName) -> int | None:
        return self._streams

    def state(self, batch: Any) -> Tensor:
        return batch[1]  # type: ignore[no-any-return]

    def with_state(self, inputs: Any, state: Tensor) -> Any:
        return inputs[0], state

    def batches(self, _: SplitName, *, batch_size: int) -> Iterator[Batch]:
        for items in torch.arange(self._items).split(batch_size):
            yield (items, torch.full_like(items, 1000)), items

    def __getattr__(self, name: str) -> Any:
        return None


def accumulate(inputs: Any) -> Any:
    items, state = inputs
    return items, state + items


def states(task: Any, batch_size: int) -> list[int]:
    found = predictions(accumulate, task, "search", batch_size=batch_size)
    return [int(state) for each in found for state in each.outputs[1]]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 9])
def test_states_are_those_of_the_items_before_for_any_batch_size(batch_size: int) -> None:
    sums = [1000, 1001, 1002, 1003, 1004, 1006, 1008, 1010, 1012, 1015, 1018]
    assert states(Counting(11, 4), batch_size) == sums


def test_initial_states_are_kept_without_streams() -> None:
    assert states(Counting(5, None), 2) == [1000 + item for item in range(5)]


def test_batches_are_no_larger_than_the_number_of_streams() -> None:
    assert largest_batch(Counting(9, 4), "search", 256) == 4
    assert largest_batch(Counting(9, 4), "search", 3) == 3
    assert largest_batch(Counting(9, None), "search", 256) == 256


def test_gradients_end_at_the_batch() -> None:
    carried = CarriedState(Counting(4, 2), "train", streams=2)
    weight = torch.ones(2, requires_grad=True)
    items = torch.zeros(2)
    carried.leave((items, weight * 3))
    _, state = carried.enter((items, torch.zeros(2)))
    assert state.tolist() == [3.0, 3.0]
    assert not state.requires_grad

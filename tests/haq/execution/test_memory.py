"""Batches that memory does not suffice for are divided, and the outputs are the same."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from haq.errors import HaqWarning, UserError
from haq.execution.memory import within_memory

ERRORS: tuple[Callable[[], Exception], ...] = (
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
    lambda: RuntimeError("onnxruntime fails: Failed to allocate memory for requested buffer of size 1024"),
    MemoryError,
)


class Limited:
    """A network, x -> 2x, that has memory for so many items."""

    def __init__(self, items: int, error: Callable[[], Exception]) -> None:
        self.items, self.error, self.sizes = items, error, list[int]()

    def __call__(self, inputs: Tensor) -> Tensor:
        self.sizes.append(len(inputs))
        if len(inputs) > self.items:
            raise self.error()
        return 2 * inputs


@pytest.mark.parametrize("error", ERRORS)
def test_batch_is_halved_until_it_fits(error: Callable[[], Exception]) -> None:
    network, inputs = Limited(3, error), torch.arange(10.0).view(10, 1)
    run = within_memory(network)
    with pytest.warns(HaqWarning) as said:
        assert torch.equal(run(inputs), 2 * inputs)
    assert [str(each.message) for each in said] == [
        "memory does not suffice for a batch of 10; it is divided into batches of 5",
        "memory does not suffice for a batch of 5; it is divided into batches of 3",
    ]
    assert network.sizes == [10, 5, 3, 3, 3, 1]
    assert torch.equal(run(inputs), 2 * inputs)  # the next batch is divided at once
    assert network.sizes[6:] == [3, 3, 3, 1]


def test_item_that_does_not_fit_is_an_error() -> None:
    with pytest.warns(HaqWarning), pytest.raises(UserError, match="memory does not suffice for a single item"):
        within_memory(Limited(0, MemoryError))(torch.ones(2, 1))


def test_other_errors_are_raised() -> None:
    with pytest.raises(RuntimeError, match="a defect"):
        within_memory(Limited(0, lambda: RuntimeError("a defect")))(torch.ones(2, 1))

from pathlib import Path

import pytest
import torch
from torch import Tensor

from haq.errors import UserError
from haq.tasks.items import FreshSplit, StoredSplit


class Counting:
    """Items that count how often they are read."""

    def __init__(self, shape: tuple[int, ...] = (2, 3, 4), length: int = 5) -> None:
        self.shape, self.length, self.reads = shape, length, 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]:
        self.reads += 1
        return torch.arange(24.0).reshape(self.shape) + 100 * index, index % 2


@pytest.mark.parametrize("limit", [10**9, 0])
def test_items_are_read_once_in_memory_and_in_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setenv("HAQ_CACHE", str(tmp_path))
    items = Counting()
    split = StoredSplit(items, memory_limit_bytes=limit)
    inputs, targets = split.take(torch.tensor([3, 1]))
    reads = items.reads
    split.take(torch.arange(5))
    assert items.reads == reads
    assert torch.equal(inputs, torch.stack([items[3][0], items[1][0]]))
    assert targets.tolist() == [1, 1]
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    assert not list(tmp_path.iterdir())


def test_batches_may_be_overwritten() -> None:
    split = StoredSplit(Counting())
    first, _ = split.take(torch.arange(2))
    kept = first.clone()
    first.zero_()
    assert torch.equal(split.take(torch.arange(2))[0], kept)


def test_inputs_that_are_not_images_keep_their_shape() -> None:
    assert StoredSplit(Counting((24,))).take(torch.arange(3))[0].shape == (3, 24)


def test_fresh_items_are_read_each_time() -> None:
    items = Counting()
    fresh, stored = FreshSplit(items), StoredSplit(Counting())
    chosen = torch.tensor([4, 0])
    for part, expected in zip(fresh.take(chosen), stored.take(chosen), strict=True):
        assert torch.equal(part, expected)
        assert part.stride() == expected.stride()
    fresh.take(chosen)
    assert items.reads == 4


def test_inputs_of_different_shapes_raise() -> None:
    class Uneven(Counting):
        def __getitem__(self, index: int, /) -> tuple[Tensor, int]:
            return torch.zeros(3, 8, 8 + index // 2), 0

    with pytest.raises(UserError, match=r"item 2 has shape \(3, 8, 9\) where others have \(3, 8, 8\); give --resize"):
        StoredSplit(Uneven()).store()


@pytest.mark.parametrize("split", [StoredSplit, FreshSplit])
def test_inputs_of_different_dtypes_raise(split: type[StoredSplit | FreshSplit]) -> None:
    class Mixed(Counting):
        def __getitem__(self, index: int, /) -> tuple[Tensor, int]:
            return torch.full((2,), 1.5).to(torch.float16 if index == 3 else torch.float32), 0

    with pytest.raises(UserError, match=r"item 3 is torch.float16 where others are torch.float32; make all items"):
        split(Mixed()).take(torch.arange(5))


def test_fresh_inputs_of_different_shapes_raise() -> None:
    class Growing(Counting):
        def __getitem__(self, index: int, /) -> tuple[Tensor, int]:
            return torch.zeros(3 + index), 0

    with pytest.raises(UserError, match=r"item 1 has shape \(4,\) where others have \(3,\)"):
        FreshSplit(Growing()).take(torch.arange(2))


class Broken(Counting):
    """Items of which every second cannot be read."""

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]:
        if index % 2:
            raise UserError(f"item{index} is broken")
        return super().__getitem__(index)


@pytest.mark.parametrize(
    ("length", "message"),
    [
        (2, "^item1 is broken$"),
        (8, "^item1 is broken; 4 of 8 items cannot be used$"),
        (500, "^item1 is broken; at least 20 of 500 items cannot be used$"),
    ],
)
def test_unreadable_items_are_counted(length: int, message: str) -> None:
    items = Broken(length=length)
    with pytest.raises(UserError, match=message):
        StoredSplit(items).store()
    assert items.reads <= 22


def test_full_disk_raises_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAQ_CACHE", str(tmp_path))
    split = StoredSplit(Counting(length=2**50), memory_limit_bytes=0)
    with pytest.raises(UserError, match="GB free; use fewer images or set HAQ_CACHE"):
        split.store()

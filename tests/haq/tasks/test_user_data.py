import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, SubsetRandomSampler, TensorDataset

from haq.errors import UserError
from haq.tasks import ClassificationTask, TaskOptions, as_task, load_task

MODULE = """
import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset

def part(n, *, classes=3):
    return TensorDataset(torch.arange(4.0 * n).reshape(n, 1, 2, 2), torch.arange(n) % classes)

class Noisy(Dataset):
    def __len__(self): return 5
    def __getitem__(self, i): return torch.rand(1, 2, 2), 1

class Endless(IterableDataset):
    def __iter__(self): return iter(())

class Broken(Noisy):
    def __getitem__(self, i): raise OSError("no disk")

def usual(): return {"calibration": part(6), "search": part(4), "report": part(4), "train": Noisy()}
def listed(): return [part(3)]
def short(): return {"calibration": part(6), "search": part(4)}
def held_out(): return usual() | {"selection": part(3)}
def extra(): return usual() | {"test": part(2)}
def empty(): return usual() | {"search": part(0)}
def endless(): return usual() | {"report": Endless()}
def arrays(): return usual() | {"report": [([1.0], 0)]}
def bare(): return usual() | {"report": [torch.zeros(1)]}
def floats(): return usual() | {"report": [(torch.zeros(1, 2, 2), 0.5)]}
def negative(): return usual() | {"report": [(torch.zeros(1, 2, 2), -1)]}
def mixed(): return usual() | {"report": [(torch.zeros(1, 2, 2, dtype=torch.int64), 0)]}
def sparse(): return usual() | {"report": [(torch.eye(2).to_sparse(), 0)]}
def meta(): return usual() | {"calibration": [(torch.zeros(1, 2, 2, device="meta"), 0)]}
def quantized(): return usual() | {"search": [(torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8), 0)]}
def nested(): return usual() | {"search": [(torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), 0)]}
def complexes(): return usual() | {"search": [(torch.zeros(1, 2, 2, dtype=torch.complex64), 0)]}
def meta_label(): return usual() | {"search": [(torch.zeros(1, 2, 2), torch.zeros((), device="meta"))]}
def sparse_label(): return usual() | {"search": [(torch.zeros(1, 2, 2), torch.tensor([1]).to_sparse())]}
def broken(): return usual() | {"report": Broken()}
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "users_own_data.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("users_own_data", None)


def test_overlapping_user_splits_are_accepted() -> None:
    task = load_task("users_own_data:usual")
    assert [task.size(split) for split in ("train", "calibration", "search", "report")] == [5, 6, 4, 4]
    assert task.size("selection") == 0
    assert load_task("users_own_data:held_out").size("selection") == 3
    assert task.num_classes == 3
    assert not task.exact_classes
    inputs, targets = next(task.batches("search", batch_size=4))
    assert torch.equal(inputs, torch.arange(16.0).reshape(4, 1, 2, 2))
    assert targets.tolist() == [0, 1, 2, 0]


def test_user_training_set_is_read_each_time() -> None:
    task = load_task("users_own_data:usual")
    (first, _), (second, _) = (next(task.batches("train", batch_size=5)) for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("listed", "returned a list; expected a mapping"),
        ("short", "mapping with no 'report'"),
        ("extra", "an unknown 'test'"),
        ("empty", "search is empty"),
        ("endless", "report is a Endless; expected a data set with a length"),
        ("arrays", "report: input 0 is a list; expected a torch tensor"),
        ("bare", r"report: item 0 is a Tensor; expected \(input, label\)"),
        ("floats", "report: label 0 is 0.5; expected a class number"),
        ("negative", "report: label 0 is -1"),
        ("mixed", "report: inputs are torch.int64 where those of calibration are torch.float32"),
        ("sparse", "report: input 0 is sparse; expected a dense tensor of real numbers"),
        ("meta", "calibration: input 0 is without values"),
        ("quantized", "search: input 0 is quantized"),
        ("nested", "search: input 0 is nested"),
        ("complexes", "search: input 0 is complex"),
        ("meta_label", "search: label 0 is tensor"),
        ("sparse_label", "search: label 0 is tensor"),
        ("broken", "report: item 0 raised OSError: no disk"),
    ],
)
def test_wrong_types_raise(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_task(f"users_own_data:{name}")
    assert "\n" not in str(caught.value)


def test_transform_options_raise_for_user_data() -> None:
    with pytest.raises(UserError, match="do not apply to users_own_data:usual"):
        load_task("users_own_data:usual", options=TaskOptions(crop=8))


def test_split_seed_raises_for_user_data() -> None:
    with pytest.raises(UserError, match="split_seed draws other splits, and those of users_own_data:usual are its own"):
        load_task("users_own_data:usual", options=TaskOptions(split_seed=1))


def loaded(mapping: dict[str, object]) -> ClassificationTask:
    task = as_task(mapping)
    assert isinstance(task, ClassificationTask)
    return task


def part(n: int) -> TensorDataset:
    return TensorDataset(torch.arange(4.0 * n).reshape(n, 1, 2, 2), torch.arange(n) % 3)


def pairs(batch: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs times two."""
    return 2 * torch.stack([each[0] for each in batch]), torch.stack([each[1] for each in batch])


def test_mapping_of_data_sets_or_loaders_is_a_task() -> None:
    sets = {name: part(6) for name in ("calibration", "search", "report")}
    loaders = {name: DataLoader(each, batch_size=4, shuffle=True) for name, each in sets.items()}
    for mapping in (sets, loaders):
        task = loaded(dict(mapping))
        (inputs, targets) = next(iter(task.batches("search", batch_size=6)))
        assert inputs.equal(part(6).tensors[0])
        assert targets.tolist() == [0, 1, 2, 0, 1, 2]
        assert task.num_classes == 3


@pytest.mark.parametrize(
    ("loader", "first", "count"),
    [
        (DataLoader(part(6), batch_size=4, collate_fn=pairs), 2.0, 6),
        (DataLoader(part(6), sampler=SubsetRandomSampler([1])), 5.0, 1),
        (DataLoader(part(6), batch_size=None), 1.0, 6),
        (DataLoader(part(6), batch_sampler=BatchSampler([1, 2, 4], batch_size=2, drop_last=False)), 5.0, 3),
        (DataLoader(part(6), batch_size=4, drop_last=True), 1.0, 6),
    ],
)
def test_loader_items_equal_their_batches(loader: DataLoader[object], first: float, count: int) -> None:
    task = loaded({"calibration": part(6), "search": loader, "report": part(6)})
    (inputs, _) = next(iter(task.batches("search", batch_size=8)))
    assert (inputs[0, 0, 0, 1].item(), len(inputs)) == (first, count)


def test_loaders_of_other_batches_raise() -> None:
    broken = DataLoader(part(6), collate_fn=lambda items: items[0][0])
    with pytest.raises(UserError, match=r"^task, search: a batch is a Tensor; expected \(inputs, labels\)$"):
        as_task({"calibration": part(6), "search": broken, "report": part(6)})
    with pytest.raises(UserError, match=r"^task: a mapping with no 'report'; expected a mapping with torch data sets"):
        as_task({"calibration": part(6), "search": part(6)})

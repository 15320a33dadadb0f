from pathlib import Path

import numpy as np
import pytest
import torch

from haq.errors import UserError
from haq.tasks import TaskOptions, load_task
from haq.tasks.classification.cifar10 import TEST_FILES, TRAIN_FILES

PLAIN = TaskOptions(normalize="none")


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    """Ten records a file, labels 0 to 9; red is the label, green 100, blue 200; the first pixel is black."""
    records = np.zeros((10, 1 + 3 * 1024), dtype=np.uint8)
    records[:, 0] = np.arange(10)
    for plane, shade in enumerate((np.arange(10), 100, 200)):
        records[:, 2 + plane * 1024 : 1 + (plane + 1) * 1024] = np.broadcast_to(shade, 10)[:, None]
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name in TRAIN_FILES + TEST_FILES:
        records.tofile(folder / name)
    return folder


@pytest.mark.parametrize("above", [False, True])
def test_binary_records_are_read(binary: Path, above: bool) -> None:
    task = load_task(f"cifar10:{binary.parent if above else binary}", options=PLAIN)
    assert [task.size(split) for split in ("train", "search", "report")] == [50, 4, 6]
    for inputs, targets in task.batches("report", batch_size=2):
        assert inputs.shape[1:] == (3, 32, 32)
        assert torch.equal((inputs[:, 0, 31, 31] * 255).round().long(), targets)
        assert (inputs[:, 2, 0, 1] * 255).round().unique().tolist() == [200]
        assert inputs[:, :, 0, 0].max() == 0


def test_published_mean_and_deviation_are_default(binary: Path) -> None:
    black = load_task(f"cifar10:{binary}").example()[0, :, 0, 0]
    torch.testing.assert_close(black, torch.tensor([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]))


def test_pickles_raise(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match=r"pickles that can run code and are never opened; expected .*binary version"):
        load_task(f"cifar10:{tmp_path}")


def test_other_folder_raises(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    with pytest.raises(UserError, match="is not a CIFAR-10 folder; expected"):
        load_task(f"cifar10:{tmp_path}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"data_batch_3\.bin is missing"),
        (b"", "has 0 bytes, not a multiple of 3073"),
        (b"\0" * 5000, "has 5000 bytes, not a multiple of 3073"),
        (b"\x0a" * 3073, "has label 10"),
    ],
)
def test_damaged_files_raise(binary: Path, content: bytes | None, message: str) -> None:
    path = binary / "data_batch_3.bin"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_task(f"cifar10:{binary}")

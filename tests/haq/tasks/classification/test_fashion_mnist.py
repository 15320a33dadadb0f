import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from haq.errors import UserError
from haq.tasks import load_task


def write_idx(path: Path, array: np.ndarray, *, packed: bool) -> None:
    content = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    if packed:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)


@pytest.fixture(params=[False, True], ids=["plain", "gz"])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Ten images a part; the shade is the label."""
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    labels = np.arange(10, dtype=np.uint8)
    images = np.broadcast_to(labels[:, None, None], (10, 28, 28))
    for stem in ("train", "t10k"):
        write_idx(raw / f"{stem}-images-idx3-ubyte", images, packed=request.param)
        write_idx(raw / f"{stem}-labels-idx1-ubyte", labels, packed=request.param)
    return tmp_path


def test_images_are_grey_in_zero_to_one(folder: Path) -> None:
    task = load_task(f"fashion_mnist:{folder}")
    inputs, targets = next(task.batches("report", batch_size=99))
    assert inputs.shape == (6, 1, 28, 28)
    torch.testing.assert_close(inputs[:, 0, 3, 3], targets / 255)
    assert task.description()["class_names"][9] == "Ankle boot"


def test_folder_without_raw_files_raises(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    with pytest.raises(UserError, match="has no FashionMNIST/raw"):
        load_task(f"fashion_mnist:{tmp_path}")


HEAD = bytes([0, 0, 8, 1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an IDX file"),
        (bytes([0, 0, 13, 1]) + b"\0\0\0\1\0", "is not an IDX file"),
        (HEAD + struct.pack(">I", 10) + bytes(9), "announces 10 bytes and holds 9"),
        (HEAD + struct.pack(">I", 4) + bytes(4), "10 images and 4 labels in t10k"),
        (HEAD + struct.pack(">I", 10) + bytes([10] * 10), "has label 10 in t10k"),
    ],
)
def test_damaged_files_raise(folder: Path, content: bytes, message: str) -> None:
    (folder / "FashionMNIST" / "raw" / "t10k-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_task(f"fashion_mnist:{folder}")


def test_damaged_and_missing_archives_raise(tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    with pytest.raises(UserError, match=r"neither .*train-images-idx3-ubyte nor .*\.gz exists"):
        load_task(f"fashion_mnist:{tmp_path}")
    (raw / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(1000))[:-12])
    with pytest.raises(UserError, match="not a whole gzip file"):
        load_task(f"fashion_mnist:{tmp_path}")

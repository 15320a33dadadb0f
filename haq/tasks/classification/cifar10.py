"""CIFAR-10 as image folders or in its binary version (Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from haq.errors import UserError
from haq.tasks.classification.image_folder import read_folder, require_folder
from haq.tasks.splits import Pool
from haq.tasks.transforms import Transform

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RECORD_BYTES = 1 + 3 * 32 * 32
"""Bytes of an image in the binary version: the label, and 3x32x32 pixels."""
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILES = ("test_batch.bin",)


def read_cifar10(folder: Path, transform: Transform) -> tuple[Pool, Pool, tuple[str, ...]]:
    """Read CIFAR-10 from image folders or from its binary version.

    Args:
        folder: Folder with `train/` and `val/`, or with the binary files or their folder `cifar-10-batches-bin`.
        transform: Function from a picture to an input of the network.

    Returns:
        Items of the train and of the val part, and the class names.

    Raises:
        UserError: The folder has another layout, such as the pickles of the Python version.
    """
    require_folder(folder)
    if (folder / "train").is_dir():
        return read_folder(folder, transform)
    binary = next(
        (place for place in (folder, folder / "cifar-10-batches-bin") if (place / TEST_FILES[0]).exists()), None
    )
    if binary is None:
        raise UserError(_layout_error(folder))
    train, test = (_pool(binary, files, transform) for files in (TRAIN_FILES, TEST_FILES))
    return train, test, CLASS_NAMES


def _layout_error(folder: Path) -> str:
    expected = "expected train/<class>/ and val/<class>/, or the binary version (data_batch_1.bin ... test_batch.bin)"
    if (folder / "data_batch_1").exists() or (folder / "cifar-10-batches-py").exists():
        return f"{folder} holds CIFAR-10's Python version, pickles that can run code and are never opened; {expected}"
    return f"{folder} is not a CIFAR-10 folder; {expected}"


def _pool(folder: Path, files: Sequence[str], transform: Transform) -> Pool:
    blocks = [_read_records(folder / file) for file in files]
    records = np.concatenate(blocks)
    keys = [f"{file}:{row}" for file, block in zip(files, blocks, strict=True) for row in range(len(block))]

    def read(index: int) -> Tensor:
        pixels = records[index, 1:].reshape(3, 32, 32).transpose(1, 2, 0)
        return transform(Image.fromarray(np.ascontiguousarray(pixels)))

    return Pool.of_classes(keys, records[:, 0].astype(np.int64), read)


def _read_records(path: Path) -> NDArray[np.uint8]:
    """Read rows [n, 3073]: the label, then red, green and blue planes."""
    if not path.exists():
        raise UserError(f"{path} is missing; the binary version has {', '.join(TRAIN_FILES + TEST_FILES)}")
    content = np.fromfile(path, dtype=np.uint8)
    if len(content) == 0 or len(content) % RECORD_BYTES:
        raise UserError(
            f"{path} has {len(content)} bytes, not a multiple of {RECORD_BYTES}: cut short or another format"
        )
    records = content.reshape(-1, RECORD_BYTES)
    if records[:, 0].max() >= len(CLASS_NAMES):
        raise UserError(f"{path} has label {records[:, 0].max()}, and CIFAR-10's go from 0 to 9: another format")
    return records

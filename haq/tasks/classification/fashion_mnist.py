"""Fashion-MNIST as IDX files (Xiao et al. 2017; format: http://yann.lecun.com/exdb/mnist/)."""

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from haq.errors import UserError
from haq.file_limits import IDX, read_bytes
from haq.tasks.classification.image_folder import require_folder
from haq.tasks.splits import Pool
from haq.tasks.transforms import Transform

CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
UNSIGNED_BYTES = 0x08
"""Type code of unsigned bytes in IDX files."""


def read_fashion_mnist(folder: Path, transform: Transform) -> tuple[Pool, Pool, tuple[str, ...]]:
    """Read Fashion-MNIST.

    Args:
        folder: Folder that contains `FashionMNIST/raw`.
        transform: Function from a picture to an input of the network.

    Returns:
        Items of the train and of the val part, and the class names.

    Raises:
        UserError: The folder has another layout, or a file is damaged.
    """
    require_folder(folder)
    raw = folder / "FashionMNIST" / "raw"
    if not raw.is_dir():
        raise UserError(f"{folder} has no FashionMNIST/raw; give the folder above it, as torchvision lays it out")
    return _pool(raw, "train", transform), _pool(raw, "t10k", transform), CLASS_NAMES


def read_idx(path: Path, *, dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes.

    Args:
        path: Path of the file; if it is missing, `.gz` is appended.
        dimensions: Number of dimensions.

    Returns:
        Array with this number of dimensions.

    Raises:
        UserError: The file is missing, damaged or of another format.
    """
    content = _content(path)
    header_bytes = 4 + 4 * dimensions
    if len(content) < header_bytes or content[:4] != bytes([0, 0, UNSIGNED_BYTES, dimensions]):
        raise UserError(f"{path} is not an IDX file of bytes with {dimensions} dimensions")
    shape = np.frombuffer(content, dtype=">u4", count=dimensions, offset=4).astype(np.int64)
    body = np.frombuffer(content, dtype=np.uint8, offset=header_bytes)
    if body.size != np.prod(shape):
        raise UserError(f"{path} announces {'x'.join(map(str, shape))} bytes and holds {body.size}: cut short?")
    return body.reshape(shape)


def _content(path: Path) -> bytes:
    packed = path.with_name(f"{path.name}.gz")
    if path.exists():
        return read_bytes(path, IDX)
    if not packed.exists():
        raise UserError(f"neither {path} nor {packed.name} exists; expected the IDX files of Fashion-MNIST")
    try:
        with gzip.open(packed) as file:
            return file.read(IDX.max_bytes)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{packed} is not a whole gzip file ({error})") from error


def _pool(raw: Path, stem: str, transform: Transform) -> Pool:
    images = read_idx(raw / f"{stem}-images-idx3-ubyte", dimensions=3)
    labels = read_idx(raw / f"{stem}-labels-idx1-ubyte", dimensions=1)
    if len(images) != len(labels) or len(labels) == 0:
        raise UserError(f"{raw} has {len(images)} images and {len(labels)} labels in {stem}; one label an image")
    if labels.max() >= len(CLASS_NAMES):
        raise UserError(f"{raw} has label {labels.max()} in {stem}, and Fashion-MNIST's go from 0 to 9")
    keys = [f"{stem}:{row}" for row in range(len(labels))]
    return Pool.of_classes(keys, labels.astype(np.int64), lambda index: transform(Image.fromarray(images[index])))

"""Image folders: train/<class>/, val/<class>/ and, if the network has more classes, classes.txt."""

import os
import struct
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from haq.errors import UserError
from haq.execution.user_code import one_line
from haq.file_limits import CLASSES, read_text
from haq.tasks.splits import Pool
from haq.tasks.transforms import MAX_PIXELS, Transform

FORMATS: Mapping[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "PPM": (".pgm", ".ppm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
"""Suffixes of image files by Pillow's name of the format; only these formats are opened, whatever the suffix."""
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
"""Suffixes of all image files that are read, in lower case."""
LAYOUT = "train/<class>/ and val/<class>/ with images, and optionally classes.txt"
"""Description of the layout, for error messages."""

_BROKEN_IMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
"""Exceptions of Pillow for damaged files, which depend on the format."""


def read_folder(folder: Path, transform: Transform) -> tuple[Pool, Pool, tuple[str, ...]]:
    """Read an image folder.

    Args:
        folder: Folder with `train/<class>/` and `val/<class>/`, and optionally `classes.txt`.
        transform: Function from a picture to an input of the network.

    Returns:
        Items of the train and of the val part, and the class names in the order of the network's outputs.

    Raises:
        UserError: The folder has another layout.
    """
    require_folder(folder)
    listings = {part: _list_classes(folder, part) for part in ("train", "val")}
    class_names = _class_names(folder, listings)
    train, val = (_pool(folder / part, listing, class_names, transform) for part, listing in listings.items())
    return train, val, class_names


def require_folder(folder: Path) -> None:
    """Require that a folder exists and is not empty.

    Args:
        folder: Path of the folder.

    Raises:
        UserError: The folder is missing, a file, or empty.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} {'is a file' if folder.exists() else 'does not exist'}; give a folder")
    if not any(folder.iterdir()):
        raise UserError(f"{folder} is empty; expected {LAYOUT}")


def read_image(path: Path, transform: Transform) -> Tensor:
    """Read and transform a picture.

    Args:
        path: Path of the image file.
        transform: Function from a picture to an input of the network.

    Returns:
        Input of the network.

    Raises:
        UserError: The file cannot be read or transformed; the message names it.
    """
    image = read_picture(path)
    try:
        return transform(image)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # a transform of the model may raise anything
        raise UserError(f"{path} cannot be transformed ({one_line(error)})") from error


def read_picture(path: Path) -> Image.Image:
    """Read a picture.

    Args:
        path: Path of the image file.

    Returns:
        The picture, as stored.

    Raises:
        UserError: The file cannot be read; the message names it.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=tuple(FORMATS)) as image:
            if not 0 < image.width * image.height <= MAX_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels; up to {MAX_PIXELS // 10**6} million are read")
            image.load()
    except FileNotFoundError as error:
        raise UserError(
            f"{path} was there when its folder was read and is missing now; is the folder moved?"
        ) from error
    except _BROKEN_IMAGE as error:
        raise UserError(f"{path} is not a readable image ({one_line(error)}); repair or remove it") from error
    return image


def _list_classes(folder: Path, part: str) -> dict[str, list[str]]:
    """Return the file names of each class folder, both sorted."""
    if not (folder / part).is_dir():
        raise UserError(f"{folder} has no folder {part}; expected {LAYOUT}")
    classes = sorted(entry.name for entry in os.scandir(folder / part) if entry.is_dir() and entry.name[0] != ".")
    if not classes:
        raise UserError(f"{folder / part} has no class folders; expected {LAYOUT}")
    listing = {name: _list_images(folder / part / name) for name in classes}
    if len(listing) < 2:
        raise UserError(f"{folder / part} has one class only, {classes[0]!r}; accuracy needs at least two")
    return listing


def _list_images(folder: Path) -> list[str]:
    names = sorted(entry.name for entry in os.scandir(folder) if _is_image(entry.name))
    if not names:
        raise UserError(f"{folder} holds no images ({' '.join(SUFFIXES)}); remove the folder or add some")
    return names


def _is_image(name: str) -> bool:
    return name[0] != "." and name.lower().endswith(SUFFIXES)


def _class_names(folder: Path, listings: dict[str, dict[str, list[str]]]) -> tuple[str, ...]:
    file = folder / "classes.txt"
    if not file.exists():
        one_sided = sorted(listings["train"].keys() ^ listings["val"].keys())
        if one_sided:
            raise UserError(
                f"class {one_sided[0]!r} is in only one of train and val of {folder} ({len(one_sided)} such); "
                "list the network's classes in classes.txt"
            )
        return tuple(listings["train"])
    names = read_class_names(file)
    for part, listing in listings.items():
        unknown = [name for name in listing if name not in names]
        if unknown:
            raise UserError(
                f"folder {folder / part / unknown[0]} is not in {file} ({len(unknown)} of {len(listing)} are not); "
                "classes.txt must hold every folder name, one a line, in the order of the network's outputs"
            )
    return tuple(names)


def read_class_names(file: Path) -> dict[str, None]:
    """Read the names of classes.

    Args:
        file: Text file with one name in each line.

    Returns:
        The names in order, as the keys of a dict for fast lookup.

    Raises:
        UserError: The file cannot be read, or names a class twice.
    """
    lines = [line.strip() for line in read_text(file, CLASSES).splitlines()]
    given = [line for line in lines if line]
    names = dict.fromkeys(given)
    if len(names) < len(given):
        twice = next(name for name in given if given.count(name) > 1)
        raise UserError(f"{file} names class {twice!r} more than once; one line a class")
    return names


def _pool(folder: Path, listing: dict[str, list[str]], class_names: tuple[str, ...], transform: Transform) -> Pool:
    index_of = {name: index for index, name in enumerate(class_names)}
    keys = [f"{folder.name}/{name}/{file}" for name, files in listing.items() for file in files]
    labels = np.repeat([index_of[name] for name in listing], [len(files) for files in listing.values()])
    root = folder.parent
    return Pool.of_classes(keys, labels.astype(np.int64), lambda index: read_image(root / keys[index], transform))

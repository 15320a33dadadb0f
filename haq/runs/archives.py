"""Read torch archives and other zip files that may be damaged or malicious, without running code from them."""

import lzma
import pickle
import struct
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError

MAX_EXPANSION = 100
"""Ratio of unpacked to packed size above which an archive is refused; weights hardly compress."""

BROKEN_FILE = (
    OSError, EOFError, RuntimeError, ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError,
    MemoryError, OverflowError, struct.error, pickle.UnpicklingError, zipfile.BadZipFile, SafetensorError,
    zlib.error, lzma.LZMAError, tokenize.TokenError,
)  # fmt: skip
"""Exceptions of torch, numpy and safetensors for damaged or malicious files."""


def archive_members(source: Path | BinaryIO, *, verify: bool = False) -> list[str]:
    """List the files in a zip archive.

    Args:
        source: Path of the archive, or the open file.
        verify: Whether to verify the checksum of every file.

    Returns:
        Names of the files.

    Raises:
        Exception: One of `BROKEN_FILE`, for a damaged archive, another kind of file, and an archive that unpacks to
            more than `MAX_EXPANSION` times its size.

    Examples:
        >>> from io import BytesIO
        >>> with zipfile.ZipFile(bomb := BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        ...     archive.writestr("zeros", bytes(10**6))
        >>> archive_members(bomb)
        Traceback (most recent call last):
        ValueError: unpacks to 1000000 bytes, more than 100 times its size
    """
    with zipfile.ZipFile(source) as archive:
        members = archive.infolist()
        unpacked_bytes = sum(member.file_size for member in members)
        if unpacked_bytes > MAX_EXPANSION * sum(member.compress_size for member in members):
            raise ValueError(f"unpacks to {unpacked_bytes} bytes, more than {MAX_EXPANSION} times its size")
        if verify and (damaged := archive.testzip()):
            raise zipfile.BadZipFile(f"the checksum of {damaged} is another")
    return [member.filename for member in members]


def read_torch(source: Path | BinaryIO) -> Any:
    """Read tensors and plain values that `torch.save` wrote.

    Args:
        source: Path of the archive, or the open file.

    Returns:
        The content, with tensors on the CPU.

    Raises:
        Exception: One of `BROKEN_FILE`, for a damaged file and for one that contains other objects.
    """
    with warnings.catch_warnings(action="ignore"):  # warnings about pickle protocols
        return torch.load(source, weights_only=True, map_location="cpu")

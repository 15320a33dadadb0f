"""Limits on the sizes of files that may come from anybody, and reading of files up to them.

Those of files that describe hardware are in `hardware_sim.file_limits`; SECURITY.md lists all of them.
"""

from pathlib import Path
from typing import BinaryIO

from haq.errors import UserError
from hardware_sim.file_limits import MIB, FileKind, TooLargeError, read_bounded, require_size

POLICY = FileKind("policy", 16 * MIB)
BITS = FileKind("file of bits", 16 * MIB)
ONNX = FileKind("graph of encodings", 2048 * MIB)
PACKED_HEADER = FileKind("header of a packed file", 64 * MIB)
CFG = FileKind("Darknet cfg", MIB)
TEXT = FileKind("text", 1024 * MIB)
ANNOTATIONS = FileKind("file of annotations", 1024 * MIB)
LABELS = FileKind("file of labels", MIB)
CLASSES = FileKind("list of classes", MIB)
IDX = FileKind("IDX file", 1024 * MIB)
RUN_DOCUMENT = FileKind("file of a run", 64 * MIB)
JOURNAL = FileKind("journal", 1024 * MIB)


def read_bytes(path: Path, kind: FileKind) -> bytes:
    """Read a file up to the limit of its kind.

    Args:
        path: The file.
        kind: What it should be.

    Returns:
        Its content.

    Raises:
        UserError: The file cannot be read, or is too large.
    """
    try:
        return read_bounded(path, kind)
    except OSError as error:
        raise UserError(f"cannot read {kind.name} {path}: {error.strerror}") from error
    except TooLargeError as error:
        raise UserError(str(error)) from error


def open_bounded(path: Path, kind: FileKind) -> BinaryIO:
    """Open a file of at most the limit of its kind, to read it in parts.

    Args:
        path: The file.
        kind: What it should be.

    Returns:
        The open file.

    Raises:
        UserError: The file cannot be read, or is too large.
    """
    try:
        require_size(path, kind)
        return path.open("rb")
    except OSError as error:
        raise UserError(f"cannot read {kind.name} {path}: {error.strerror}") from error
    except TooLargeError as error:
        raise UserError(str(error)) from error


def read_text(path: Path, kind: FileKind) -> str:
    """Read a text file up to the limit of its kind.

    Args:
        path: The file.
        kind: What it should be.

    Returns:
        Its text, without a byte order mark, with line feeds as its only line ends.

    Raises:
        UserError: The file cannot be read, is too large or is no text in UTF-8.
    """
    try:
        text = read_bytes(path, kind).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text: byte {error.start} is not UTF-8; convert it") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")

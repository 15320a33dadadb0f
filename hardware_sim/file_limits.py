"""Limits on the sizes of files that may come from anybody, and reading of files up to them."""

from dataclasses import dataclass
from os import fstat
from pathlib import Path

MIB = 2**20


@dataclass(frozen=True, slots=True)
class FileKind:
    """Kind of file, and how much of one is read.

    Attributes:
        name: What such a file is, such as "policy".
        max_bytes: Size above which a file is refused before it is parsed.
    """

    name: str
    max_bytes: int


class TooLargeError(ValueError):
    """A file is above the limit of its kind; the message is one line."""


DEVICE = FileKind("device file", MIB)
TARGET = FileKind("target file", MIB)
COST_TABLE = FileKind("cost table", 64 * MIB)
INSTRUCTION_TABLE = FileKind("table of instructions", 4 * MIB)


def read_bounded(path: Path, kind: FileKind) -> bytes:
    """Read a file, or a pipe, up to the limit of its kind.

    Args:
        path: The file.
        kind: What it should be.

    Returns:
        Its content.

    Raises:
        OSError: The file cannot be read.
        TooLargeError: It is above the limit.
    """
    with path.open("rb") as file:
        _require_size(path, fstat(file.fileno()).st_size, kind)
        content = file.read(kind.max_bytes + 1)  # pipes and devices have no size
    _require_size(path, len(content), kind)
    return content


def require_size(path: Path, kind: FileKind) -> None:
    """Check the size of a file that is read in parts or mapped into memory.

    Args:
        path: The file.
        kind: What it should be.

    Raises:
        OSError: The file is missing.
        TooLargeError: It is above the limit of its kind.
    """
    _require_size(path, path.stat().st_size, kind)


def _require_size(path: Path, size_bytes: int, kind: FileKind) -> None:
    if size_bytes > kind.max_bytes:
        raise TooLargeError(f"{path} is larger than {kind.max_bytes // MIB} MiB, the limit for a {kind.name}")

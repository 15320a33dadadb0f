"""Exclusive use of a run folder, or of a single file, by one process at a time."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from haq.errors import UserError

LOCK = ".haq.lock"
"""Name of the lock file in a folder that is being written. It lies inside so that every name of the folder leads to it,
also from another machine or container. It is removed at the end, and what a killed process leaves locks nothing."""
WAIT_S = 2.0
"""A process that was killed a moment ago, or a worker of one, may still be ending."""


@contextmanager
def exclusive_folder(path: Path) -> Iterator[None]:
    """Keep other processes out of a folder, which is made if it is missing and removed again if it stays empty.

    Raises UserError where another process uses the folder, or where it cannot be locked.
    """
    made = [each for each in (path, *path.parents) if not each.exists()]
    try:
        with _locked(path / LOCK, subject=path):
            yield
    finally:
        with suppress(OSError):  # not empty
            for each in made:
                each.rmdir()


@contextmanager
def exclusive_file(path: Path) -> Iterator[None]:
    """Keep other processes from writing a file in a folder that exists; raises UserError as `exclusive_folder` does."""
    with _locked(path.with_name(f".{path.name}{LOCK}"), subject=path):
        yield


@contextmanager
def _locked(file: Path, *, subject: Path) -> Iterator[None]:
    """Hold the operating system's lock on a file, which ends with the process however that ends."""
    # A marker in place of a lock, where the file system has none, would outlive a killed process on another machine.
    lock = FileLock(file, timeout=WAIT_S, fallback_to_soft=False, on_acquired=_sign)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"{subject} is in use by another process{_owner(file)}; wait for it or choose another --out"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot lock {subject}: {error.strerror or error}; choose an --out on a file system that supports "
            "locks and that this user may write to"
        ) from error
    try:
        yield
    finally:
        file.unlink(missing_ok=True)  # while it is locked: who waits for it sees that it is gone, and makes another
        lock.release()


def _sign(descriptor: int) -> None:
    """Write into a lock file who holds it."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"pid {os.getpid()} on {socket.gethostname()}".encode(), 0)


def _owner(file: Path) -> str:
    """Who holds a lock, in brackets; nothing where that cannot be read."""
    try:
        owner = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    return f" ({owner})" if owner.isprintable() and owner else ""

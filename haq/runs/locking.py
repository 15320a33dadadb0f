"""Exclusive use of a run folder, or of a single file, by one process at a time."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from haq.errors import UserError

LOCK = ".haq.lock"
"""Name of the lock file of a folder that is being written.

It is inside the folder, so that it is found through every path to the folder, also from another machine or container.
It is removed at the end; one that a killed process left behind does not lock the folder.
"""
WAIT_S = 2.0
"""Time to wait for a lock: a process that was just killed, or one of its workers, may still be terminating."""


@contextmanager
def exclusive_folder(path: Path) -> Iterator[None]:
    """Lock a folder against other processes in the context; it is created if missing, and removed if it stays empty.

    Args:
        path: Folder to lock.

    Yields:
        None.

    Raises:
        UserError: Another process uses the folder, or it cannot be locked.
    """
    created = [each for each in (path, *path.parents) if not each.exists()]
    try:
        with _locked(path / LOCK, subject=path):
            yield
    finally:
        with suppress(OSError):  # not empty
            for each in created:
                each.rmdir()


@contextmanager
def exclusive_file(path: Path) -> Iterator[None]:
    """Lock a file against writing by other processes in the context.

    Args:
        path: File to lock, which may be missing; its folder must exist.

    Yields:
        None.

    Raises:
        UserError: Another process uses the file, or it cannot be locked.
    """
    with _locked(path.with_name(f".{path.name}{LOCK}"), subject=path):
        yield


@contextmanager
def _locked(file: Path, *, subject: Path) -> Iterator[None]:
    """Hold the operating system's lock on a file, which is released whenever the process ends."""
    # No soft lock on file systems without locks: it would remain after a process is killed on another machine.
    lock = FileLock(file, timeout=WAIT_S, fallback_to_soft=False, on_acquired=_write_owner)
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
        file.unlink(missing_ok=True)  # before the release, so that a waiting process creates a new lock file
        lock.release()


def _write_owner(descriptor: int) -> None:
    """Write the process id and the host into a lock file."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"pid {os.getpid()} on {socket.gethostname()}".encode(), 0)


def _owner(file: Path) -> str:
    """Return the owner of a lock in brackets; an empty text if it cannot be read."""
    try:
        owner = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    return f" ({owner})" if owner.isprintable() and owner else ""

"""Folders in which programs are compiled and run."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from haq.runs.cache import cache_dir

MAX_AGE_SECONDS = 24 * 3600.0
"""Age of a folder that no process uses any more: compilations and runs end after minutes."""


@contextmanager
def program_folder() -> Iterator[Path]:
    """Create a folder for a program in the cache folder, and remove it afterwards.

    A process that is killed leaves its folder; the next program that starts a day later removes it.

    Yields:
        The empty folder.

    Raises:
        UserError: The cache folder cannot be used.
    """
    parent = cache_dir() / "programs"
    parent.mkdir(exist_ok=True)
    _remove_old(parent)
    with tempfile.TemporaryDirectory(dir=parent) as name:
        yield Path(name)


def _remove_old(parent: Path) -> None:
    oldest = time.time() - MAX_AGE_SECONDS  # noqa: TID251  compared with times of files
    for folder in parent.iterdir():
        with suppress(OSError):  # another process has removed it
            if folder.stat().st_mtime < oldest:
                shutil.rmtree(folder)

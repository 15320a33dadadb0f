"""Writing of files so that a kill at any moment leaves the old content or the new."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Put a file in place whole or not at all, also when two processes write it at once or one is killed."""
    with system_errors_named(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=unfinished(path.name))
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o666 & ~_umask())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file, which is made if it is missing."""
    with system_errors_named(path), path.open("a", newline="", encoding="utf-8") as file:
        file.write(line + "\n")


@contextmanager
def system_errors_named(path: Path) -> Iterator[None]:
    """Set the filename of OSErrors to `path`: read and write errors carry none, others that of a temporary file."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            error.filename = str(path)
        raise


def unfinished(name: str) -> str:
    """What the name of a file begins with while it is being written."""
    return f".{name}.haq-"


def _umask() -> int:
    """What this process withholds from new files; a temporary file is made for the owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    return mask

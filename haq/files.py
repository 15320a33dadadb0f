"""Atomic writing of files: a kill or a power failure at any moment leaves the old or the new content."""

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the content of a file atomically, also if several processes write it at once.

    Args:
        path: File to write; its folder must exist.
        content: New content.

    Raises:
        OSError: The file cannot be written; `filename` is `path`.
    """
    write_together({path: content})


def link_target(path: Path) -> Path:
    """Return the file that a symbolic link leads to, so that writing it leaves the link.

    For files that users name. Links in folders of runs are replaced, since folders can come from others.

    Args:
        path: Path of a file, which may be missing.

    Returns:
        The target of a link, which may be missing; other paths as they are.
    """
    return path.resolve() if path.is_symlink() else path


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Replace the contents of several files, each atomically, after all of them were written under temporary names.

    So a full disk or a missing permission changes none of them.

    Args:
        contents: New content by file; the folders must exist.

    Raises:
        OSError: A file cannot be written; `filename` is its path.
    """
    written: dict[Path, Path] = {}
    try:
        for path, content in contents.items():
            with system_errors_named(path):
                _write_temporary(path, content, written)
        for path in contents:
            with system_errors_named(path):
                written[path].replace(path)
        for folder in {path.parent for path in contents}:
            sync_folder(folder)
    except BaseException:
        for temporary in written.values():
            temporary.unlink(missing_ok=True)
        raise


def _write_temporary(path: Path, content: bytes, written: dict[Path, Path]) -> None:
    """Write a temporary file in the folder of `path`, and add it to `written` before its content."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=unfinished(path.name))
    written[path] = Path(name)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    Path(name).chmod(0o666 & ~_umask())


def append_line(path: Path, line: str) -> None:
    """Append a line to a text file, which is created if it is missing.

    The line survives a kill of the process at once, and a power failure after `sync_file`.

    Args:
        path: File to write; its folder must exist.
        line: Line without line break.

    Raises:
        OSError: The file cannot be written; `filename` is `path`.
    """
    with system_errors_named(path), path.open("a", newline="", encoding="utf-8") as file:
        file.write(line + "\n")


def sync_file(path: Path) -> None:
    """Write a file and its entry in the folder to the disk, so that they survive a power failure.

    Args:
        path: The file.

    Raises:
        OSError: It cannot be written; `filename` is `path`.
    """
    with system_errors_named(path), path.open("rb") as file:
        os.fsync(file.fileno())
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Write the entries of a folder to the disk, where the file system can.

    Args:
        path: The folder.

    Raises:
        OSError: They cannot be written; `filename` is `path`.
    """
    with system_errors_named(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot sync folders
                raise
        finally:
            os.close(descriptor)


@contextmanager
def system_errors_named(path: Path) -> Iterator[None]:
    """Set the filename of OSErrors to `path`: read and write errors have none, others that of a temporary file.

    Args:
        path: File that is read or written inside the context.

    Yields:
        None.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            error.filename = str(path)
        raise


def unfinished(name: str) -> str:
    """Return the prefix of the temporary file that a file is written to first.

    Args:
        name: Name of the file.

    Returns:
        The prefix.
    """
    return f".{name}.haq-"


def remove_unfinished(folder: Path, name: str) -> None:
    """Remove temporary files that an interrupted process left in a folder; no other process may write there.

    Args:
        folder: The folder.
        name: Name of the file that was written, or a pattern such as `*`.

    Raises:
        OSError: A file cannot be removed.
    """
    for left in folder.glob(f"{unfinished(name)}*"):
        left.unlink(missing_ok=True)


def _umask() -> int:
    """Return the permissions withheld from new files; temporary files are created for the owner only."""
    mask = os.umask(0)
    os.umask(mask)
    return mask

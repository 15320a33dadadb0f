import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from haq.errors import UserError
from haq.files import append_line, system_errors_named, write_atomically
from haq.runs.cache import cache_dir


def test_cache_folder_is_read_from_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAQ_CACHE", str(tmp_path / "deep" / "cache"))
    assert cache_dir() == tmp_path / "deep" / "cache"
    assert cache_dir().is_dir()


def test_file_in_place_of_cache_folder_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HAQ_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot use .*file as cache .*set HAQ_CACHE"):
        cache_dir()


def test_write_replaces_file_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "answer"
    write_atomically(path, b"a long first content")
    write_atomically(path, b"short")
    assert path.read_bytes() == b"short"
    assert list(tmp_path.iterdir()) == [path]


def test_failed_write_keeps_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "answer"
    write_atomically(path, b"old")

    def full(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """Limit the file size, which acts like a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_write_error_names_file(tmp_path: Path) -> None:
    path = tmp_path / "answer"
    with pytest.raises(OSError, match="File too large") as caught, largest_file(100):
        write_atomically(path, bytes(200))
    assert caught.value.filename == str(path)
    with pytest.raises(OSError, match="File too large") as caught, largest_file(100):
        append_line(path, 200 * "x")
    assert caught.value.filename == str(path)


def test_write_error_does_not_name_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "answer"
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(path, b"")
    assert caught.value.filename == str(path)


def test_error_without_errno_is_unchanged(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"^mine$"), system_errors_named(tmp_path):
        raise OSError("mine")


def test_append_line_creates_and_extends_file(tmp_path: Path) -> None:
    append_line(tmp_path / "journal", "{}")
    append_line(tmp_path / "journal", "[]")
    assert (tmp_path / "journal").read_bytes() == b"{}\n[]\n"

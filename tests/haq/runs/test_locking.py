"""Locks of folders and files against other processes, also after a process was killed."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from haq.__main__ import main
from haq.errors import UserError
from haq.runs.locking import LOCK, exclusive_file, exclusive_folder
from haq.runs.run_folder import CONFIG, RunFolder

HOLD = """
import sys
from pathlib import Path
from haq.runs.locking import exclusive_folder
with exclusive_folder(Path(sys.argv[1])):
    (Path(sys.argv[1]) / "kept").touch()
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haq.runs.locking.WAIT_S", 0.0)


def holder(path: Path) -> subprocess.Popen[str]:
    """Process that locks a folder until its standard input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_locked_folder_raises_with_process_id(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = holder(folder)
    owner = re.escape(f"{folder} is in use by another process (pid {process.pid} on ")
    with pytest.raises(UserError, match=owner), exclusive_folder(folder):
        pytest.fail("held twice")
    process.communicate("")
    with exclusive_folder(folder):
        pass
    assert [each.name for each in folder.iterdir()] == ["kept"]


def test_lock_of_killed_process_is_released(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = holder(folder)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (folder / LOCK).exists()
    with exclusive_folder(folder):
        assert str(os.getpid()) in (folder / LOCK).read_text()
    assert [each.name for each in folder.iterdir()] == ["kept"]


def test_folder_is_locked_through_links(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with (
        exclusive_folder(tmp_path / "run"),
        pytest.raises(UserError, match="in use"),
        exclusive_folder(tmp_path / "link"),
    ):
        pytest.fail("held twice")


def test_empty_folder_is_removed(tmp_path: Path) -> None:
    with exclusive_folder(tmp_path / "deep" / "run"):
        pass
    assert not list(tmp_path.iterdir())


def test_folder_with_only_a_lock_file_counts_as_empty(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("pid 1 on elsewhere")
    RunFolder.check_free(tmp_path)
    with RunFolder.opened(tmp_path, {}) as run:
        assert run is None
        RunFolder.create(tmp_path, {"seed": 0}, {})
    assert not (tmp_path / LOCK).exists()
    with RunFolder.opened(tmp_path, {"seed": 0}, resume=True) as run:
        assert run == RunFolder(tmp_path)


def test_refused_process_leaves_folder_unchanged(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", {"seed": 0}, {})
    half_written = run.path / f".{CONFIG}.haq-12345678"
    half_written.touch()
    opened = RunFolder.opened(run.path, {"seed": 0}, resume=True)
    with exclusive_folder(run.path), pytest.raises(UserError, match="in use"), opened:
        pytest.fail("held twice")
    assert half_written.exists()


def test_file_system_without_locks_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> bool:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", unsupported)
    message = r"cannot lock .*run: Function not implemented; choose an --out"
    with pytest.raises(UserError, match=message), exclusive_folder(tmp_path / "run"):
        pytest.fail("not locked")


def test_link_in_place_of_lock_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "run" / LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match="cannot lock"), exclusive_folder(tmp_path / "run"):
        pytest.fail("locked through a link")
    assert (tmp_path / "precious").read_text() == "mine"


def test_exclusive_file_locks_file(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    with exclusive_file(table), pytest.raises(UserError, match=r"t\.csv is in use"), exclusive_file(table):
        pytest.fail("held twice")
    assert not list(tmp_path.iterdir())


SMALL = ("--search-images", "20", "--report-images", "20", "--calibration-images", "16", "--quiet")


@pytest.mark.parametrize("command", ["search", "finetune", "reconstruct", "sensitivity", "compare", "pareto"])
@pytest.mark.parametrize("flags", [(), ("--resume",)])
def test_commands_that_write_a_locked_run_exit_with_error(
    command: str, flags: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder.create(tmp_path / "run", {"seed": 0}, {})
    before = sorted(run.path.iterdir())
    with exclusive_folder(run.path):
        assert main([command, *SMALL, *flags, "--out", str(run.path)]) == 2
    output = capsys.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1)
    assert f"{run.path} is in use by another process (pid {os.getpid()} on " in output.err
    assert sorted(run.path.iterdir()) == before


def test_measuring_into_locked_file_exits_with_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "cpu.csv"
    with exclusive_file(table):
        assert main(["hardware", "measure", "--repeats", "3", "--quiet", "--out", str(table)]) == 2
    assert f"{table} is in use by another process" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

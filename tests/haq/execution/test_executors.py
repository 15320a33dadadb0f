"""Contract of executors, and what is special to worker processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from haq.errors import UserError
from haq.execution.executors import Executor, InProcess
from haq.execution.processes import Processes
from haq.execution.ray_cluster import RayCluster

EXECUTORS: dict[str, Callable[[], Executor]] = {
    "in process": InProcess,
    "two processes": lambda: Processes(2),
    "ray": RayCluster,
}


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> Executor:
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
    return EXECUTORS[request.param]()


@dataclass(frozen=True, slots=True)
class Write:
    """Write a file once, and count the runs in another."""

    folder: Path
    name: str

    def run(self) -> None:
        with (self.folder / f"{self.name}.runs").open("a") as runs:
            runs.write("x")
        path = self.folder / self.name
        if not path.exists():
            path.write_text(f"{os.getpid()} {torch.get_num_threads()}")


@dataclass(frozen=True, slots=True)
class Fail:
    """Raise an error for users."""

    folder: Path

    def run(self) -> None:
        (self.folder / "failed").touch()
        raise UserError("a budget of 0")


@dataclass(frozen=True, slots=True)
class Sleep:
    """Write a file, wait until `Fail` has run if asked to, sleep, write another file."""

    folder: Path
    name: str
    seconds: float
    is_after_failure: bool = False

    def run(self) -> None:
        (self.folder / f"{self.name}.begun").touch()
        while self.is_after_failure and not (self.folder / "failed").exists():
            time.sleep(0.05)
        time.sleep(self.seconds)
        (self.folder / f"{self.name}.done").touch()


def writes(folder: Path, names: str) -> list[Write]:
    return [Write(folder, name) for name in names]


def test_every_job_is_run_once_in_order_and_its_results_are_there(executor: Executor, tmp_path: Path) -> None:
    jobs, finished = writes(tmp_path, "abcde"), []
    for job in executor.run(jobs):
        assert (job.folder / job.name).exists()
        finished.append(job.name)
    assert [(tmp_path / f"{job.name}.runs").read_text() for job in jobs] == ["x"] * 5
    assert sorted(finished) == list("abcde")
    # Two processes begin jobs in order, but the system decides which ends first.
    assert not isinstance(executor, InProcess) or finished == list("abcde")


def test_no_jobs_are_no_work(executor: Executor) -> None:
    assert list(executor.run([])) == []


def test_an_error_of_a_job_is_raised_and_no_other_job_starts(executor: Executor, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a budget of 0"):
        list(executor.run([Fail(tmp_path), *(Sleep(tmp_path, name, 1.0, is_after_failure=True) for name in "abc")]))
    begun = {path.stem for path in tmp_path.glob("*.begun")}
    assert begun <= {"a"}  # the one that another process ran meanwhile
    assert all((tmp_path / f"{name}.done").exists() for name in begun)


def test_no_job_starts_after_the_iteration_is_abandoned(executor: Executor, tmp_path: Path) -> None:
    finished = executor.run(writes(tmp_path, "abcdefgh"))
    next(finished)
    finished.close()  # type: ignore[attr-defined]
    assert len(list(tmp_path.glob("*.runs"))) <= 2


@pytest.mark.parametrize("name", ["two processes", "ray"])
def test_an_interrupt_stops_running_jobs(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if name == "ray":
        request.getfixturevalue("ray_cluster")
    jobs = EXECUTORS[name]().run([*writes(tmp_path, "a"), Sleep(tmp_path, "long", 600)])
    next(jobs)
    while not (tmp_path / "long.begun").exists():
        time.sleep(0.05)
    with pytest.raises(KeyboardInterrupt):
        jobs.throw(KeyboardInterrupt())  # type: ignore[attr-defined]
    assert not (tmp_path / "long.done").exists()


def test_workers_are_other_processes_of_one_thread(tmp_path: Path) -> None:
    list(Processes(1).run(writes(tmp_path, "a")))
    pid, threads = (tmp_path / "a").read_text().split()
    assert int(pid) != os.getpid()
    assert threads == "1"


def test_jobs_in_process_run_in_the_calling_process(tmp_path: Path) -> None:
    list(InProcess().run(writes(tmp_path, "a")))
    assert int((tmp_path / "a").read_text().split()[0]) == os.getpid()


PARENT = """
import os, sys, time
from haq.execution.processes import Processes

if __name__ == "__main__":
    with Processes(1).pool() as pool:
        pool.share(1)
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600)
        time.sleep(600)
"""


def test_a_killed_parent_leaves_no_worker_no_files_and_no_warning(tmp_path: Path) -> None:
    script, temporary = tmp_path / "parent.py", tmp_path / "temporary"
    script.write_text(PARENT)
    temporary.mkdir()
    command, environment = [sys.executable, str(script)], {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        worker = int(parent.stdout.readline())
        assert list(temporary.glob("*/*"))
        os.kill(parent.pid, signal.SIGKILL)
        complaint = parent.stderr.read()  # ends with the last process that may write
    assert complaint == ""
    assert list(temporary.glob("*")) == []
    for _ in range(600):
        if not is_alive(worker):
            return
        time.sleep(0.1)
    raise AssertionError(f"process {worker} is still there")


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat")
        return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False

"""Workers that are processes on this machine."""

import mmap
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing import current_process, get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_handles
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Generic, TypeVar

from haq.errors import UserError
from haq.execution.executors import J
from haq.execution.pools import RETRIES, run_jobs
from haq.execution.remote_calls import limit_threads

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Processes:
    """Worker processes of one thread each; they end with the calling process, however it ends.

    On a machine with GPUs they use them in turn.

    Attributes:
        workers: Number of worker processes, at least 1.
    """

    workers: int

    def run(self, jobs: Iterable[J]) -> Iterator[J]:
        """Run as many jobs at a time as there are workers; see `Executor.run`."""
        pending = list(jobs)
        if pending:
            with Processes(min(self.workers, len(pending))).pool() as pool:
                yield from run_jobs(pool, pending)

    @contextmanager
    def pool(self) -> Iterator["ProcessPool"]:
        """Start the processes; see `Workers.pool`."""
        context = get_context("spawn")
        _start_quiet_tracker()
        stopped, stop = context.Pipe(duplex=False)
        with tempfile.TemporaryDirectory(prefix="haq-") as folder:
            pool = ProcessPool(self.workers, stopped, Path(folder))
            try:
                yield pool
            except Exception:
                raise
            except BaseException:
                pool.abandon()
                stop.close()
                raise
            finally:
                pool.close()
                stop.close()
                stopped.close()


@dataclass(frozen=True, slots=True)
class SharedFile(Generic[T]):
    """Value in a file whose memory all processes of a machine share.

    Attributes:
        path: File written by `haq.execution.packing.pack`.
    """

    path: Path

    def get(self) -> T:
        """Return the value; changes of its tensors stay in this process."""
        value: T = _loaded(self.path)
        return value


@lru_cache(maxsize=1)
def _loaded(path: Path) -> Any:
    from haq.execution.packing import unpack  # imports torch, which takes seconds

    with path.open("rb") as file:
        return unpack(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))


class ProcessPool:
    """Pool of processes, which is started again if one of them dies.

    The calls that were running then are repeated.

    Args:
        workers: Number of processes.
        stopped: End of a pipe; workers end when the other one is closed.
        folder: Folder for shared values.

    Attributes:
        slots: Number of processes.
    """

    def __init__(self, workers: int, stopped: Connection, folder: Path) -> None:
        self.slots = workers
        self._stopped, self._folder = stopped, folder
        self._gpus = _visible_gpus()
        self._shared = 0
        self._lock = Lock()
        self._is_abandoned = False
        self._processes = self._started()

    def share(self, value: T) -> SharedFile[T]:
        """Write a value into a temporary file; see `Pool.share`."""
        from haq.execution.packing import pack

        self._shared += 1
        path = self._folder / str(self._shared)
        with path.open("wb") as file:
            pack(value, file)
        return SharedFile(path)

    def submit(self, function: Callable[..., R], *arguments: object) -> Future[R]:
        """Start a call in one of the processes; see `Pool.submit`."""
        result: Future[R] = Future()
        self._start(result, partial(function, *arguments), RETRIES)
        return result

    def abandon(self) -> None:
        """Repeat no call any more."""
        self._is_abandoned = True

    def close(self) -> None:
        """Wait for running calls, and end the processes."""
        self._processes.shutdown()

    def _started(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self.slots,
            mp_context=get_context("spawn"),
            initializer=_begin,
            initargs=(self._stopped, self._folder, self._gpus),
        )

    def _start(self, result: Future[R], call: Callable[[], R], retries: int) -> None:
        with self._lock:
            processes = self._processes
            try:
                running = processes.submit(call)
            except BrokenProcessPool:
                processes = self._processes = self._started()
                running = processes.submit(call)
        running.add_done_callback(partial(self._finish, result, call, retries, processes))

    def _finish(
        self,
        result: Future[R],
        call: Callable[[], R],
        retries: int,
        processes: ProcessPoolExecutor,
        running: Future[R],
    ) -> None:
        error = running.exception()
        if isinstance(error, BrokenProcessPool) and retries and not self._is_abandoned:
            with self._lock:
                if self._processes is processes:
                    self._processes = self._started()
            self._start(result, call, retries - 1)
        elif isinstance(error, BrokenProcessPool):
            times = 1 + RETRIES - retries
            result.set_exception(UserError(f"the process of a call died every time, {times} in all; is memory short?"))
        elif error is not None:
            result.set_exception(error)
        else:
            result.set_result(running.result())


def _start_quiet_tracker() -> None:
    """Start the process that removes the semaphores of a killed process, without the warning that it does so."""
    name = "PYTHONWARNINGS"
    before = os.environ.get(name)
    os.environ[name] = "ignore:resource_tracker:UserWarning"
    try:
        resource_tracker.ensure_running()
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _begin(stopped: Connection, folder: Path, gpus: tuple[str, ...]) -> None:
    """Set up a worker: one thread, a GPU if there is one, and no reaction to Ctrl-C, which its parent handles."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limit_threads(1)
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu_of(current_process().name, gpus)
    Thread(target=_end_with_parent, args=(stopped, folder), daemon=True).start()


def _visible_gpus() -> tuple[str, ...]:
    """Return the names of the GPUs that this process may use; none if torch was not imported, as by stubs in tests."""
    torch = sys.modules.get("torch")
    count = torch.cuda.device_count() if torch else 0
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return tuple(named or map(str, range(count)))[:count]


def gpu_of(name: str, gpus: Sequence[str]) -> str:
    """Return the GPU of a worker.

    Args:
        name: Name of the process, which ends in its number, from 1.
        gpus: Names of the GPUs.

    Returns:
        Name of the GPU.

    Examples:
        >>> [gpu_of(f"SpawnProcess-{number}", ("4", "5")) for number in (1, 2, 3)]
        ['4', '5', '4']
    """
    return gpus[(int(name.rpartition("-")[2]) - 1) % len(gpus)]


def _end_with_parent(stopped: Connection, folder: Path) -> None:
    """End this worker, and remove its shared values, when the caller closes its end of the pipe, or dies."""
    parent = parent_process()
    assert parent is not None
    wait_for_handles([parent.sentinel, stopped])
    shutil.rmtree(folder, ignore_errors=True)  # a parent that was killed does not
    os._exit(1)

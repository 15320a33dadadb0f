"""Workers that are jobs of Slurm, submitted by submitit."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar
from uuid import uuid4

from haq.errors import UserError
from haq.execution.executors import J
from haq.execution.pools import RETRIES, run_jobs
from haq.execution.remote_calls import Outcome, Surroundings, outcome_of

R = TypeVar("R")
T = TypeVar("T")

LOCAL = "local"
"""Option with which jobs are processes of this machine, to try settings without Slurm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmCluster:
    """Jobs of Slurm, one for each call, on machines that have this package and share a file system.

    Attributes:
        folder: Folder for scripts, logs and results of the jobs, on the shared file system.
        workers: Number of jobs that are submitted at a time.
        cpus: CPUs of a job, which are also its threads.
        gpus: GPUs of a job.
        options: Options of sbatch, such as partition and time (minutes); or `LOCAL` alone.
    """

    folder: Path
    workers: int
    cpus: int = 1
    gpus: int = 0
    options: Mapping[str, str]

    def run(self, jobs: Iterable[J]) -> Iterator[J]:
        """Submit as many jobs at a time as there are workers; see `Executor.run`."""
        pending = list(jobs)
        if pending:
            with self.pool() as pool:
                yield from run_jobs(pool, pending)

    @contextmanager
    def pool(self) -> Iterator["SlurmPool"]:
        """Get ready to submit jobs; see `Workers.pool`."""
        submitit = _import_submitit()
        folder = self.folder / uuid4().hex[:12]
        pool = SlurmPool(submitit, self._executor(submitit, folder), self, folder)
        try:
            yield pool
        except Exception:
            raise
        except BaseException:
            pool.cancel()
            raise
        finally:
            pool.close()

    def _executor(self, submitit: Any, folder: Path) -> Any:
        try:
            if LOCAL in self.options:
                return submitit.LocalExecutor(folder=folder)
            executor = submitit.SlurmExecutor(folder=folder)
            gpus = {"gpus_per_node": self.gpus} if self.gpus else {}
            executor.update_parameters(
                job_name="haq", ntasks_per_node=1, cpus_per_task=self.cpus, **gpus, **_numbers(self.options)
            )
        except (RuntimeError, ValueError, TypeError, ImportError) as error:
            raise UserError(f"--cluster slurm: {' '.join(str(error).split())[:300]}") from error
        return executor


def _numbers(options: Mapping[str, str]) -> dict[str, str | int]:
    return {name: int(value) if value.isdecimal() else value for name, value in options.items()}


@dataclass(frozen=True, slots=True)
class SharedFile(Generic[T]):
    """Value in a file that all machines read.

    Attributes:
        path: File written by `haq.execution.packing.pack`.
    """

    path: Path

    def get(self) -> T:
        """Return the value, read again for each call, as each is a process of its own."""
        from haq.execution.packing import unpack  # imports torch, which takes seconds

        value: T = unpack(bytearray(self.path.read_bytes()))
        return value


class SlurmPool:
    """Submission of jobs, each watched by a thread.

    Args:
        submitit: The library.
        executor: Its executor.
        cluster: Settings.
        folder: Folder of this pool.

    Attributes:
        slots: Number of jobs that are submitted at a time.
    """

    def __init__(self, submitit: Any, executor: Any, cluster: SlurmCluster, folder: Path) -> None:
        self.slots = cluster.workers
        self._submitit, self._executor, self._folder = submitit, executor, folder
        self._surroundings = Surroundings.here(threads=cluster.cpus)
        self._threads = ThreadPoolExecutor(cluster.workers)
        self._jobs: set[Any] = set()
        self._is_cancelled = False
        self._shared = 0

    def share(self, value: T) -> SharedFile[T]:
        """Write a value into a file; see `Pool.share`."""
        from haq.execution.packing import pack

        self._shared += 1
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = (self._folder / f"shared{self._shared}").absolute()
        with path.open("wb") as file:
            pack(value, file)
        return SharedFile(path)

    def submit(self, function: Callable[..., R], *arguments: object) -> Future[R]:
        """Submit a job, as soon as fewer than `slots` are submitted; see `Pool.submit`."""
        return self._threads.submit(self._result, function, arguments)

    def _result(self, function: Callable[..., R], arguments: tuple[object, ...]) -> R:
        failures = (self._submitit.core.utils.UncompletedJobError, self._submitit.core.utils.FailedJobError)
        for _ in range(1 + RETRIES):
            if self._is_cancelled:
                break
            job = self._executor.submit(outcome_of, self._surroundings, function, arguments)
            self._jobs.add(job)
            try:
                outcome: Outcome = job.result()
            except failures:
                continue
            finally:
                self._jobs.discard(job)
            found: R = outcome.get()
            return found
        raise UserError(f"a Slurm job did not end {1 + RETRIES} times; its logs are in {self._folder}")

    def cancel(self) -> None:
        """Cancel submitted jobs, and submit no more."""
        self._is_cancelled = True
        for job in list(self._jobs):
            job.cancel(check=False)

    def close(self) -> None:
        """Wait for submitted jobs, and remove shared values."""
        self._threads.shutdown(cancel_futures=True)
        for number in range(self._shared):
            (self._folder / f"shared{number + 1}").unlink(missing_ok=True)


def _import_submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise UserError("--cluster slurm needs submitit, which is not installed: pip install 'haq[slurm]'") from error
    return submitit

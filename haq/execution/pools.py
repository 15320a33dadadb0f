"""Protocols of workers that run functions, in other processes or on other machines, and the running of jobs by them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from haq.execution.executors import Executor, J, Job

R = TypeVar("R")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

RETRIES = 3
"""Number of times that a call is repeated because its worker died."""


class Shared(Protocol[T_co]):
    """Picklable reference to a value that workers have."""

    def get(self) -> T_co:
        """Return the value, in a worker; it is loaded once per process."""
        ...


class Pool(Protocol):
    """Workers that are ready to run functions."""

    @property
    def slots(self) -> int:
        """Number of calls that can run at the same time now, at least 1."""
        ...

    def share(self, value: T) -> Shared[T]:
        """Make a value available to all workers, until the pool is closed.

        Args:
            value: Any value that can be serialized, such as a network with its data.

        Returns:
            Reference to pass to functions.
        """
        ...

    def submit(self, function: Callable[..., R], *arguments: object) -> Future[R]:
        """Start a call in a worker of one thread; it is repeated up to `RETRIES` times if its worker dies.

        Args:
            function: Function of a module.
            arguments: Picklable arguments.

        Returns:
            Future of the result. Exceptions of the function are raised by `result`, as they are.
        """
        ...


class Workers(Executor, Protocol):
    """Place where jobs and functions run."""

    def pool(self) -> AbstractContextManager[Pool]:
        """Start workers.

        At the end of the context running calls are waited for. If it ends with an exception that is no `Exception`
        (`KeyboardInterrupt`, `GeneratorExit`), they are stopped instead.

        Returns:
            Context with the pool.
        """
        ...


def run_jobs(pool: Pool, jobs: Iterable[J]) -> Iterator[J]:
    """Run jobs in a pool, no more at a time than it has slots; see `Executor.run`.

    Args:
        pool: Workers.
        jobs: Picklable jobs, independent of each other.

    Yields:
        The finished jobs.
    """
    pending = deque(jobs)
    running: dict[Future[None], J] = {}
    while pending or running:
        # A job that a pool has queued may no longer be cancelled, so none is submitted ahead of time.
        while pending and len(running) < pool.slots:
            job = pending.popleft()
            running[pool.submit(_run, job)] = job
        finished, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            job = running.pop(future)
            future.result()
            yield job


def _run(job: Job) -> None:
    job.run()

"""Protocol of jobs and of executors, and the executor that runs jobs in the calling process."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar


class Job(Protocol):
    """Unit of work that contains all its settings and writes its results into a folder.

    A job is picklable, so that it can run in another process or on another machine. Its results are read from the
    folder; nothing is returned. A job whose results are complete returns at once when it is run again, and one that was
    killed continues or starts again.
    """

    @property
    def folder(self) -> Path:
        """Folder that receives the results. Several jobs may share one if they write different files."""
        ...

    def run(self) -> None:
        """Do the work and write the results."""
        ...


J = TypeVar("J", bound=Job)


class Executor(Protocol):
    """Protocol of runners of jobs: in this process, in other processes, or on other machines."""

    def run(self, jobs: Iterable[J]) -> Iterator[J]:
        """Run jobs and yield each one when it is finished.

        Jobs start in the given order and are yielded in the order in which they finish. If a job raises an exception,
        no further job is started, and the exception is raised here after the running jobs have finished. If the
        iteration is abandoned or interrupted (`KeyboardInterrupt`), running jobs are stopped at once.

        Args:
            jobs: Picklable jobs, independent of each other.

        Yields:
            The finished jobs.
        """
        ...


class InProcess:
    """Executor that runs jobs one after another in the calling process."""

    def run(self, jobs: Iterable[J]) -> Iterator[J]:
        """Run jobs in the given order; see `Executor.run`."""
        for job in jobs:
            job.run()
            yield job

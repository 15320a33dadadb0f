"""Calls in processes that another program starts, such as those of Ray and Slurm."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_INHERITED = ("HAQ_CACHE", "HAQ_DATA")
"""Variables of the environment that workers take from the calling process."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a call depends on beside its arguments.

    Attributes:
        folder: Current folder, which relative paths start from.
        variables: Variables of the environment.
        threads: Number of threads of torch.
    """

    folder: Path
    variables: tuple[tuple[str, str], ...]
    threads: int

    @classmethod
    def here(cls, *, threads: int) -> "Surroundings":
        """Describe those of this process.

        Args:
            threads: Number of threads that a call may use.

        Returns:
            The description.
        """
        return cls(Path.cwd(), tuple((name, os.environ[name]) for name in _INHERITED if name in os.environ), threads)

    def enter(self) -> None:
        """Change to them, where this machine has the folder."""
        with suppress(FileNotFoundError):
            os.chdir(self.folder)
        os.environ.update(self.variables)
        limit_threads(self.threads)


def limit_threads(threads: int) -> None:
    """Limit the threads of torch in this process; torch, whose import takes seconds, is not imported for that.

    Args:
        threads: Number of threads.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read when torch is imported
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a call, or the exception that it raised; libraries would wrap exceptions.

    Attributes:
        value: The result.
        error: The exception; None without one.
    """

    value: Any = None
    error: Exception | None = None

    def get(self) -> Any:
        """Return the result.

        Returns:
            The result.

        Raises:
            Exception: The exception of the call.
        """
        if self.error is not None:
            raise self.error
        return self.value


def outcome_of(surroundings: Surroundings, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Outcome:
    """Call a function.

    Args:
        surroundings: Folder, environment and threads to use.
        function: The function.
        arguments: Its arguments.

    Returns:
        The outcome.
    """
    surroundings.enter()
    try:
        return Outcome(function(*arguments))
    except Exception as error:  # noqa: BLE001  raised in the calling process
        return Outcome(error=error)

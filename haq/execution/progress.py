"""Protocol of observers of a workflow's progress, and an observer that shows nothing."""

from collections.abc import Callable, Mapping
from typing import Protocol

Progress = Callable[[str], None]
"""Function that receives the name of a phase when it begins; see `Watcher.phase`."""


class Watcher(Protocol):
    """Observer of the progress of a workflow, which displays or logs it.

    A workflow calls `phase` at the start of each phase. Around a loop of known length it calls `begin` and `end`, with
    a `step` after each iteration, and `measured` before it where the iteration has numbers. `line` and `warn` may be
    called at any time. An exception that a watcher raises ends the workflow. A watcher that is passed to other
    processes must be picklable.
    """

    def phase(self, name: str) -> None:
        """Begin a phase, which ends the phase before it.

        Args:
            name: Name of the phase, such as "calibrate".
        """
        ...

    def begin(self, unit: str, total: int, *, done: int = 0) -> None:
        """Begin a loop, which ends the phase before it.

        Args:
            unit: Name of one iteration in the singular, such as "episode".
            total: Number of iterations.
            done: Number of iterations done in earlier sessions.
        """
        ...

    def step(self, done: int, status: str = "") -> None:
        """Report that one more iteration of the loop is done.

        Args:
            done: Number of iterations done, those of earlier sessions included.
            status: State of the loop, such as "loss 0.0123".
        """
        ...

    def measured(self, done: int, values: Mapping[str, float]) -> None:
        """Report the numbers of an iteration, for a log or a plot; called before its `step`.

        Args:
            done: Number of iterations done, this one and those of earlier sessions included.
            values: Numbers by name, such as `accuracy`, `noise`, `cost` and `score` of an episode, or the `loss` of a
                training step, in epochs the mean so far.
        """
        ...

    def end(self) -> None:
        """End the loop; also called where it was interrupted."""
        ...

    def line(self, text: str) -> None:
        """Report a fact that stays on display, such as the result of an epoch; ends the current phase.

        Args:
            text: The fact, in one line.
        """
        ...

    def warn(self, text: str) -> None:
        """Report a problem that makes the results doubtful; ends the current phase.

        Args:
            text: The problem, in one line.
        """
        ...


class Silent:
    """Watcher that shows nothing; watchers of your own inherit from it what they do not need."""

    def phase(self, name: str) -> None:
        """Show nothing."""

    def begin(self, unit: str, total: int, *, done: int = 0) -> None:
        """Show nothing."""

    def step(self, done: int, status: str = "") -> None:
        """Show nothing."""

    def measured(self, done: int, values: Mapping[str, float]) -> None:
        """Show nothing."""

    def end(self) -> None:
        """Show nothing."""

    def line(self, text: str) -> None:
        """Show nothing."""

    def warn(self, text: str) -> None:
        """Show nothing."""


SILENT = Silent()


def no_progress(_: str) -> None:
    """Ignore the name of a phase."""

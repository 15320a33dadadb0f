"""The protocol by which every workflow reports its progress, and the watcher that shows nothing."""

from collections.abc import Callable
from typing import Protocol

Progress = Callable[[str], None]
"""Is called with the name of a phase when it begins, which ends the phase before it; see `Watcher.phase`."""


class Watcher(Protocol):
    """Receives the progress of a workflow, to display or log it.

    A workflow names its phases with `phase`; a loop of known length is bracketed by `begin` and `end`, with a `step`
    after each iteration. `line` and `warn` may be called at any time. An exception that a watcher raises ends the
    workflow. A watcher that is handed to other processes must be picklable.
    """

    def phase(self, name: str) -> None:
        """Begin a phase, which ends the phase before it."""
        ...

    def begin(self, unit: str, total: int, *, done: int = 0) -> None:
        """Begin a loop, which ends the phase before it.

        Args:
            unit: What is counted, in the singular, such as "episode".
            total: How many there will be.
            done: How many an earlier session has done already.
        """
        ...

    def step(self, done: int, status: str = "") -> None:
        """Report that one more iteration of the loop is done.

        Args:
            done: How many are done, counted from the start of the workflow.
            status: Where the loop stands, such as "loss 0.0123".
        """
        ...

    def end(self) -> None:
        """End the loop; also called where it was interrupted."""
        ...

    def line(self, text: str) -> None:
        """Report a fact that stays readable, such as the result of an epoch; ends the current phase."""
        ...

    def warn(self, text: str) -> None:
        """Report something that makes the results doubtful; ends the current phase."""
        ...


class Silent:
    """A `Watcher` that shows nothing."""

    def phase(self, name: str) -> None:
        """Show nothing."""

    def begin(self, unit: str, total: int, *, done: int = 0) -> None:
        """Show nothing."""

    def step(self, done: int, status: str = "") -> None:
        """Show nothing."""

    def end(self) -> None:
        """Show nothing."""

    def line(self, text: str) -> None:
        """Show nothing."""

    def warn(self, text: str) -> None:
        """Show nothing."""


SILENT = Silent()


def no_progress(_: str) -> None:
    """Show nothing."""

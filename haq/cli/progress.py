"""Progress on standard error: phases with their seconds, and loops with a bar or occasional lines.

On a terminal a phase is a live line and a loop is a bar. In a pipe a phase is a plain line that is completed with its
seconds when it ends, and a loop prints at most `LINES_AT_MOST` lines. In a pipe the lines of the first phases are also
buffered for up to `HOLD_SECONDS`: most mistakes of a user are found in these phases, and the error message is then the
only line.
"""

import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from textwrap import wrap
from threading import Lock, Timer
from time import monotonic
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TaskID, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from haq.cli.output import say, warn
from haq.cli.screen import progress_bar
from haq.errors import HaqWarning
from haq.execution.progress import SILENT, Watcher
from haq.formatting import plural

LINE_LENGTH = 80
LINES_AT_MOST = 20
"""Largest number of lines that a loop prints in a pipe."""
EARLY = ("load", "trace", "read data", "engine check")
"""Phases in which most mistakes of a user are found."""
HOLD_SECONDS = 30.0
"""Longest time for which the lines of early phases are buffered."""


class PlainProgress:
    """A `Watcher` for pipes and files: a line for every phase, and for some of the steps of a loop.

    Lines of early phases are buffered until a later phase, or for `HOLD_SECONDS`. Pickling it for another process makes
    it a `LinesOnly`, because several processes may write at the same time.
    """

    def __init__(self) -> None:
        self._began: float | None = None
        self._held: list[str] | None = []
        self._lock = Lock()
        self._timer = Timer(HOLD_SECONDS, self._release)
        self._timer.daemon = True
        self._unit, self._total, self._first, self._start = "step", 0, 0, monotonic()

    def phase(self, name: str) -> None:
        """Write the name of the phase; its seconds follow when it ends."""
        self._end_phase()
        if name not in EARLY:
            self._release()
        elif self._timer.ident is None:
            self._timer.start()
        self._write(f"{name} ... ")
        self._began = monotonic()

    def begin(self, unit: str, total: int, *, done: int = 0) -> None:
        """Write the buffered lines and start the time of the loop."""
        self._end_phase()
        self._release()
        self._unit, self._total, self._first, self._start = unit, total, done, monotonic()

    def step(self, done: int, status: str = "") -> None:
        """Write a line with the time left, for the last step and evenly spaced ones before it."""
        if done % max(1, self._total // LINES_AT_MOST) and done != self._total:
            return
        rate = (monotonic() - self._start) / max(done - self._first, 1)
        left = f"{_duration(rate * (self._total - done))} left"
        say("  ".join(filter(None, (f"{self._unit} {done}/{self._total}", status, left))))
        sys.stderr.flush()

    def measured(self, done: int, values: Mapping[str, float]) -> None:
        """Show nothing: numbers are in the status of steps."""

    def end(self) -> None:
        """Write the seconds of the loop."""
        say(f"{plural(self._unit)} ... {_seconds(monotonic() - self._start)}")

    def line(self, text: str) -> None:
        """Write the buffered lines and a line."""
        self._end_phase()
        self._release()
        _say_wrapped(text)

    def warn(self, text: str) -> None:
        """Write the buffered lines and a warning."""
        self._end_phase()
        self._release()
        warn(text)

    def close(self) -> None:
        """End the last phase and drop the buffered lines."""
        self._timer.cancel()
        self._end_phase()

    def __reduce__(self) -> tuple[type["LinesOnly"], tuple[()]]:
        return LinesOnly, ()

    def _end_phase(self) -> None:
        if self._began is not None:
            self._write(f"{_seconds(monotonic() - self._began)}\n")
        self._began = None

    def _write(self, text: str) -> None:
        with self._lock:
            if self._held is not None:
                self._held.append(text)
                return
            sys.stderr.write(text)
            sys.stderr.flush()

    def _release(self) -> None:
        with self._lock:
            held, self._held = self._held or [], None
            sys.stderr.write("".join(held))
            sys.stderr.flush()


class LiveProgress:
    """A `Watcher` for terminals: a live line for every phase, which remains when it ends, and a bar for a loop."""

    def __init__(self) -> None:
        self._shown: Bar | None = None
        self._task = TaskID(0)

    def phase(self, name: str) -> None:
        """Show a line with the name and the seconds of the phase."""
        self._show(progress_bar("{task.description} ...", _Seconds()))
        self._bar.add_task(name, total=None)

    def begin(self, unit: str, total: int, *, done: int = 0) -> None:
        """Show a bar."""
        columns = (BarColumn(8), MofNCompleteColumn(), "{task.description}", TimeRemainingColumn(compact=True))
        self._show(progress_bar(unit, *columns))
        self._task = self._bar.add_task("", total=total, completed=done)

    def step(self, done: int, status: str = "") -> None:
        """Update the bar."""
        self._bar.update(self._task, completed=done, description=status)

    def measured(self, done: int, values: Mapping[str, float]) -> None:
        """Show nothing: numbers are in the status of steps."""

    def end(self) -> None:
        """Stop updating the bar."""
        self.close()

    def line(self, text: str) -> None:
        """Print a line above the bar, or after the line of the phase."""
        self._end_phase()
        _say_wrapped(text)

    def warn(self, text: str) -> None:
        """Print a warning above the bar, or after the line of the phase."""
        self._end_phase()
        warn(text)

    def close(self) -> None:
        """Stop updating the line or the bar."""
        if self._shown is not None:
            self._shown.stop()
        self._shown = None

    def __reduce__(self) -> tuple[type["LinesOnly"], tuple[()]]:
        return LinesOnly, ()

    @property
    def _bar(self) -> Bar:
        assert self._shown is not None, "begin a phase or a loop first"
        return self._shown

    def _show(self, bar: Bar) -> None:
        self.close()
        self._shown = bar
        bar.start()

    def _end_phase(self) -> None:
        """End the line of a phase; a bar stays, because lines are printed above it."""
        if self._shown is not None and self._shown.tasks[0].total is None:
            self.close()


class LinesOnly:
    """A `Watcher` for other processes, made by pickling `PlainProgress` or `LiveProgress`: prints whole lines only."""

    def phase(self, name: str) -> None:
        """Show nothing."""

    def begin(self, unit: str, total: int, *, done: int = 0) -> None:
        """Show nothing."""

    def step(self, done: int, status: str = "") -> None:
        """Show nothing."""

    def measured(self, done: int, values: Mapping[str, float]) -> None:
        """Show nothing: numbers are in the status of steps."""

    def end(self) -> None:
        """Show nothing."""

    def line(self, text: str) -> None:
        """Print a line."""
        say(text)
        sys.stderr.flush()

    def warn(self, text: str) -> None:
        """Print a warning."""
        warn(text)
        sys.stderr.flush()


class _Seconds(ProgressColumn):
    """Column with the seconds since the phase began."""

    def render(self, task: Task) -> Text:
        return Text(_seconds(task.elapsed or 0.0))


@contextmanager
def shown_progress(*, quiet: bool) -> Iterator[Watcher]:
    """Show the progress of a workflow on standard error, live on a terminal and as plain lines in a pipe.

    Args:
        quiet: Show nothing.

    Yields:
        The watcher for the workflow; its display ends with the context, also if the workflow raises an exception.
    """
    if quiet:
        yield SILENT
        return
    shown = LiveProgress() if sys.stderr.isatty() else PlainProgress()
    try:
        with _warnings_shown(shown):
            yield shown
    finally:
        shown.close()


@contextmanager
def _warnings_shown(watcher: Watcher) -> Iterator[None]:
    """Pass warnings of haq to a watcher instead of printing them with the place in the code."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def pass_on(message: Warning | str, category: type[Warning], *arguments: Any, **settings: Any) -> None:
            if issubclass(category, HaqWarning):
                watcher.warn(str(message))
            else:
                show(message, category, *arguments, **settings)

        warnings.showwarning = pass_on
        yield


def _say_wrapped(text: str) -> None:
    """Print a text in lines of at most `LINE_LENGTH` characters."""
    for line in wrap(text, LINE_LENGTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False):
        say(line)


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s"


def _duration(seconds: float) -> str:
    """Format a duration with one significant unit.

    >>> _duration(59.0), _duration(61.0), _duration(7200.0)
    ('59 s', '1 min', '2 h')
    """
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"

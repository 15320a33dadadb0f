"""Progress on standard error: phases with their seconds, and loops with a bar or a line now and then.

On a terminal a phase is a live line and a loop is a bar. In a pipe a phase is a plain line that is completed with its
seconds when it ends, and a loop prints at most `LINES_AT_MOST` lines. The lines of the first phases are held back for a
while there, so that a user's mistake, which is mostly found in these phases, is the only line.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import wrap
from threading import Lock, Timer
from time import monotonic

from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TaskID, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from haq.cli.output import say, warn
from haq.cli.screen import progress_bar
from haq.execution.progress import SILENT, Watcher

LINE_LENGTH = 80
LINES_AT_MOST = 20
"""Lines that a loop prints in a pipe, so that a log stays readable."""
EARLY = ("load", "trace", "read data", "engine check")
"""Phases in which most mistakes of a user are found."""
HOLD_SECONDS = 30.0
"""How long the lines of early phases are held back at most."""


class PlainProgress:
    """A `Watcher` for pipes and files: a line for every phase, and some of the steps of a loop.

    Lines of early phases are held until a later phase, or for `HOLD_SECONDS`. In another process, where several may
    write at the same time, only `line` and `warn` print.
    """

    def __init__(self) -> None:
        self._began: float | None = None
        self._held: list[str] | None = []
        self._lock = Lock()
        self._timer = Timer(HOLD_SECONDS, self._release)
        self._timer.daemon = True
        self._unit, self._total, self._first, self._start = "step", 0, 0, monotonic()

    def phase(self, name: str) -> None:
        self._end_phase()
        if name not in EARLY:
            self._release()
        elif self._timer.ident is None:
            self._timer.start()
        self._write(f"{name} ... ")
        self._began = monotonic()

    def begin(self, unit: str, total: int, *, done: int = 0) -> None:
        self._end_phase()
        self._release()
        self._unit, self._total, self._first, self._start = unit, total, done, monotonic()

    def step(self, done: int, status: str = "") -> None:
        if done % max(1, self._total // LINES_AT_MOST) and done != self._total:
            return
        rate = (monotonic() - self._start) / max(done - self._first, 1)
        left = f"{_duration(rate * (self._total - done))} left"
        say("  ".join(filter(None, (f"{self._unit} {done}/{self._total}", status, left))))
        sys.stderr.flush()

    def end(self) -> None:
        say(f"{self._unit}s ... {_seconds(monotonic() - self._start)}")

    def line(self, text: str) -> None:
        self._end_phase()
        self._release()
        _say_wrapped(text)

    def warn(self, text: str) -> None:
        self._end_phase()
        self._release()
        warn(text)

    def close(self) -> None:
        """End the last phase and drop the lines that are held."""
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
    """A `Watcher` for terminals: a live line for every phase, which stays when it is over, and a bar for a loop."""

    def __init__(self) -> None:
        self._shown: Bar | None = None
        self._task = TaskID(0)

    def phase(self, name: str) -> None:
        self._show(progress_bar("{task.description} ...", _Seconds()))
        self._bar.add_task(name, total=None)

    def begin(self, unit: str, total: int, *, done: int = 0) -> None:
        columns = (BarColumn(8), MofNCompleteColumn(), "{task.description}", TimeRemainingColumn(compact=True))
        self._show(progress_bar(unit, *columns))
        self._task = self._bar.add_task("", total=total, completed=done)

    def step(self, done: int, status: str = "") -> None:
        self._bar.update(self._task, completed=done, description=status)

    def end(self) -> None:
        self.close()

    def line(self, text: str) -> None:
        self._end_phase()
        _say_wrapped(text)

    def warn(self, text: str) -> None:
        self._end_phase()
        warn(text)

    def close(self) -> None:
        """End what is shown live."""
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
        """Lines are printed above a bar, and after the line of a phase."""
        if self._shown is not None and self._shown.tasks[0].total is None:
            self.close()


class LinesOnly:
    """What `PlainProgress` and `LiveProgress` are in another process: it prints whole lines and nothing else."""

    def phase(self, name: str) -> None:
        """Show nothing."""

    def begin(self, unit: str, total: int, *, done: int = 0) -> None:
        """Show nothing."""

    def step(self, done: int, status: str = "") -> None:
        """Show nothing."""

    def end(self) -> None:
        """Show nothing."""

    def line(self, text: str) -> None:
        say(text)
        sys.stderr.flush()

    def warn(self, text: str) -> None:
        warn(text)
        sys.stderr.flush()


class _Seconds(ProgressColumn):
    """Time since the phase began."""

    def render(self, task: Task) -> Text:
        return Text(_seconds(task.elapsed or 0.0))


@contextmanager
def shown_progress(*, quiet: bool) -> Iterator[Watcher]:
    """Show the progress of a workflow on standard error, in the way that suits a terminal or a pipe.

    Args:
        quiet: Show nothing.

    Yields:
        The watcher to hand to the workflow; what it shows ends with the context, also where the workflow fails.
    """
    if quiet:
        yield SILENT
        return
    shown = LiveProgress() if sys.stderr.isatty() else PlainProgress()
    try:
        yield shown
    finally:
        shown.close()


def _say_wrapped(text: str) -> None:
    """Print a text in lines of at most `LINE_LENGTH` characters."""
    for line in wrap(text, LINE_LENGTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False):
        say(line)


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s"


def _duration(seconds: float) -> str:
    """A time to wait for, roughly.

    >>> _duration(59.0), _duration(61.0), _duration(7200.0)
    ('59 s', '1 min', '2 h')
    """
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"

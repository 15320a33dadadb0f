"""Progress on standard error: phases by name with their seconds, and the episodes of a search between them.

On a terminal a phase is a live line, and episodes are a bar. In a pipe a phase is a plain line that is completed with
its seconds when it ends, and episodes are a line now and then. A user's mistake is one line there: what comes before is
held back for a while.
"""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from textwrap import wrap
from threading import Lock, Timer
from time import monotonic
from typing import Protocol

from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TaskID, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from haq.cli.output import say, warn
from haq.cli.screen import progress_bar
from haq.costs.pricing import cost_in
from haq.formatting import format_cost, format_score, percent
from haq.searching.goals import Line
from haq.searching.session import Session

LINE_LENGTH = 80
LINES_AT_MOST = 20
"""Plain lines a search, so that a log stays readable."""
EARLY = ("load", "trace", "read data", "engine check")
"""Phases in which most mistakes of a user are found: a mistake is to be the only line in a pipe."""
HOLD_SECONDS = 30.0
"""So long the plain lines of early phases are held back, unless another phase begins before."""


class Phases(Protocol):
    """Shows phases, one at a time."""

    def phase(self, name: str) -> None:
        """Show that a phase begins; the one before it is over."""
        ...

    def end_phase(self) -> None:
        """Show that the last phase is over."""
        ...

    def close(self) -> None:
        """Show that the command has ended or failed."""
        ...


class PlainPhases:
    """A line for every phase; lines of early phases wait for a later phase, or for `HOLD_SECONDS`."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._held: list[str] | None = []
        self._lock = Lock()
        self._timer = Timer(HOLD_SECONDS, self._release)
        self._timer.daemon = True

    def phase(self, name: str) -> None:
        self.end_phase()
        if name not in EARLY:
            self._release()
        elif self._timer.ident is None:
            self._timer.start()
        self._write(f"{name} ... ")
        self._began = monotonic()

    def end_phase(self) -> None:
        if self._began is not None:
            self._write(f"{_seconds(monotonic() - self._began)}\n")
        self._began = None

    def close(self) -> None:
        """End the last phase and drop held lines."""
        self._timer.cancel()
        self.end_phase()

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


class LivePhases:
    """A live line for every phase; it stays when the phase is over."""

    def __init__(self) -> None:
        self._line: Bar | None = None

    def phase(self, name: str) -> None:
        self.end_phase()
        self._line = progress_bar("{task.description} ...", _Seconds())
        self._line.add_task(name)
        self._line.start()

    def end_phase(self) -> None:
        if self._line is not None:
            self._line.stop()
        self._line = None

    def close(self) -> None:
        self.end_phase()


class _Seconds(ProgressColumn):
    """Time since the phase began."""

    def render(self, task: Task) -> Text:
        return Text(_seconds(task.elapsed or 0.0))


class LiveSearch(LivePhases):
    """Phases as live lines, episodes as a bar: the best policy so far, its cost, the time left."""

    def __init__(self) -> None:
        super().__init__()
        columns = (BarColumn(8), MofNCompleteColumn(), "{task.description}", TimeRemainingColumn(compact=True))
        self._bar = progress_bar("episode", *columns)
        self._task = TaskID(0)

    def begin(self, session: Session) -> None:
        self.end_phase()
        _say_opening(session)
        self._bar.start()
        total = session.problem.config.episodes
        self._task = self._bar.add_task(best_so_far(session), total=total, completed=session.episode)

    def episode(self, session: Session, _: Line) -> None:
        self._bar.update(self._task, completed=session.episode, description=best_so_far(session))

    def end(self) -> None:
        self._bar.stop()


class PlainSearch(PlainPhases):
    """Phases and episodes as plain lines."""

    def __init__(self) -> None:
        super().__init__()
        self._start, self._first = monotonic(), 0

    def begin(self, session: Session) -> None:
        self.end_phase()
        _say_opening(session)
        self._start, self._first = monotonic(), session.episode

    def episode(self, session: Session, _: Line) -> None:
        total = session.problem.config.episodes
        every = max(1, total // LINES_AT_MOST)
        if session.episode % every and session.episode != total:
            return
        rate = (monotonic() - self._start) / (session.episode - self._first)
        left = _duration(rate * (total - session.episode))
        say(f"episode {session.episode}/{total}  {best_so_far(session)}  {left} left")
        sys.stderr.flush()

    def end(self) -> None:
        say(f"episodes ... {_seconds(monotonic() - self._start)}")


class NoPhases:
    """Shows nothing."""

    def phase(self, name: str) -> None:
        """Show nothing."""

    def end_phase(self) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Show nothing."""


@contextmanager
def search_progress(*, quiet: bool) -> Iterator[LiveSearch | PlainSearch | None]:
    """What suits where standard error goes; None for a search that is quiet."""
    shown = LiveSearch() if sys.stderr.isatty() else PlainSearch()
    with closing(shown):
        yield None if quiet else shown


@contextmanager
def phase_progress(*, quiet: bool) -> Iterator[Phases]:
    """What shows the phases of a command; the line of the last phase ends also where that fails."""
    shown = NoPhases() if quiet else LivePhases() if sys.stderr.isatty() else PlainPhases()
    with closing(shown):
        yield shown


def best_so_far(session: Session) -> str:
    """The policy that is best on the search images; the winner is named on the selection images at the end."""
    best, metric = session.best, session.problem.task.metric_name
    if best is None:
        return "best on search images: none yet"
    score = percent(best["accuracy"], digits=2) if metric == "accuracy" else format_score(best["accuracy"], metric)
    baseline = cost_in(session.problem.config.objective, session.problem.priced.baseline)
    return f"best on search images: {score} at {percent(best['cost'] / baseline)}"


def _say_opening(session: Session) -> None:
    """What is searched for, in lines that fit 80 columns for names of a usual length."""
    for warning in session.warnings:
        warn(warning)
    problem = session.problem
    config, task, priced = problem.config, problem.task, problem.priced
    say(f"{priced.name} ({len(priced.layers)} layers) on {priced.table.hardware}, batch {priced.table.batch}")
    if config.max_accuracy_drop is not None:
        sure = "" if config.confidence is None else f", at {100 * config.confidence:.4g} % confidence"
        say(f"least {config.objective}, at most {config.max_accuracy_drop:g} points below the float accuracy{sure}")
    else:
        for each in problem.budgets:
            limit = format_cost(each.budget.objective, each.budget.limit)
            say(f"at most {limit} {each.budget.objective} ({percent(each.ratio)} of 8 bits)")
    accuracy, metric = session.evaluator.accuracy_fp32, task.metric_name
    for line in wrap(f"engine: {problem.network.engine_reason}", LINE_LENGTH, subsequent_indent="  "):
        say(line)
    score = percent(accuracy, digits=2) if metric == "accuracy" else format_score(accuracy, metric)
    say(f"float {metric} {score} on {task.size('search')} search images")
    if task.size("selection"):
        say(f"the best few of these are measured again on {task.size('selection')} selection images")


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

"""A search as one watches it: a live bar on a terminal, plain lines elsewhere, on standard error either way."""

import sys
from time import monotonic

from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TimeRemainingColumn

from haq.cli.output import say, warn
from haq.cli.screen import progress_bar
from haq.costs.pricing import cost_in
from haq.pretty import percent, pretty_cost
from haq.searching.goals import Line
from haq.searching.session import Session

LINES_AT_MOST = 20
"""Plain lines a search, so that a log stays readable."""


def progress_watcher() -> "LiveBar | PlainLines":
    """What suits where standard error goes."""
    return LiveBar() if sys.stderr.isatty() else PlainLines()


class LiveBar:
    """Episode, reward, best accuracy, cost against budget, time left."""

    def __init__(self) -> None:
        columns = (BarColumn(24), MofNCompleteColumn(), "{task.description}", TimeRemainingColumn())
        self._progress = progress_bar("episode", *columns)
        self._task = TaskID(0)

    def begin(self, session: Session) -> None:
        _warn(session)
        say(_opening(session))
        self._progress.start()
        total = session.problem.config.episodes
        self._task = self._progress.add_task("", total=total, completed=session.episode)

    def episode(self, session: Session, line: Line) -> None:
        self._progress.update(self._task, completed=session.episode, description=_state(session, line))

    def end(self) -> None:
        self._progress.stop()


class PlainLines:
    """A line now and then."""

    def __init__(self) -> None:
        self._began = monotonic()
        self._first = 0

    def begin(self, session: Session) -> None:
        self._began, self._first = monotonic(), session.episode
        _warn(session)
        say(_opening(session))

    def episode(self, session: Session, line: Line) -> None:
        total = session.problem.config.episodes
        every = max(1, total // LINES_AT_MOST)
        if session.episode % every and session.episode != total:
            return
        rate = (monotonic() - self._began) / (session.episode - self._first)
        left = f"{rate * (total - session.episode):.0f} s left"
        sys.stderr.write(f"episode {session.episode}/{total}  {_state(session, line)}  {left}\n")

    def end(self) -> None:
        sys.stderr.flush()


def _warn(session: Session) -> None:
    for warning in session.warnings:
        warn(warning)


def _opening(session: Session) -> str:
    problem = session.problem
    drop = problem.config.max_accuracy_drop
    aim = "" if drop is None else f", least {problem.config.objective} at most {drop:g} points below it"
    budgets = ", ".join(
        f"{pretty_cost(each.budget.objective, each.budget.limit)} {each.budget.objective} ({each.ratio:.3g} of 8 bits)"
        for each in problem.budgets
    )
    layers = f"{len(problem.priced.trace.layers)} layers"
    accuracy = percent(session.evaluator.accuracy_fp32, digits=2)
    return (
        f"{problem.priced.name} ({layers}) on {problem.priced.table.hardware}, batch {problem.priced.table.batch}, "
        f"at most {budgets}; float accuracy {accuracy} on {problem.task.size('search')} search images{aim}"
    )


def _state(session: Session, line: Line) -> str:
    best = session.best
    shown = "none yet" if best is None else f"{percent(best['accuracy'], digits=2)} at {_ratio(session, best)}"
    used = line["cost"] / session.limit
    return f"score {line['score']:+.4f}  best {shown}  cost {percent(used)} of budget"


def _ratio(session: Session, line: Line) -> str:
    """The cost of a line as part of that of 8 bits."""
    priced = session.problem.priced
    return percent(line["cost"] / cost_in(session.problem.config.objective, priced.baseline))

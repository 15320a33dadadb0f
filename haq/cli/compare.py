"""`haq compare`: compare search methods at the same number of evaluations."""

from pathlib import Path
from typing import Annotated

import typer

from agents.registry import METHODS
from haq.cli.clusters import ClusterFlag, TaskCpusFlag, TaskGpusFlag, WorkersFlag, workers_of
from haq.cli.flags import ALL_FLAGS, JsonFlag, QuietFlag, SeedsFlag, read_several, with_config
from haq.cli.folders import resumable
from haq.cli.progress import shown_progress
from haq.cli.studies import finish_study
from haq.config import SearchConfig
from haq.errors import UserError, suggestion
from haq.studies.comparison.compare import compare
from haq.studies.comparison.plan import Comparison

_OWN = ("agent", "budget", "episodes", "max_accuracy_drop", "confidence")
_FLAGS = tuple(name for name in ALL_FLAGS if name not in _OWN)

MAX_DIGITS = 9
"""Largest number of digits of a number of evaluations."""


@with_config(*_FLAGS)
def compare_command(
    config: SearchConfig,
    *,
    agents: Annotated[
        str, typer.Option(help="Search methods, separated by commas; the others are compared with the first.")
    ] = "ddpg,random,uniform",
    budgets: Annotated[str, typer.Option(help="Budgets, separated by commas, each compared separately.")] = "0.6",
    at: Annotated[str, typer.Option(help="Numbers of evaluations to compare at, separated by commas.")] = "50,100",
    seeds: SeedsFlag = 3,
    redraw: Annotated[bool, typer.Option("--redraw", help="Draw other images for every seed.")] = False,
    workers: WorkersFlag = 1,
    cluster: ClusterFlag = None,
    task_cpus: TaskCpusFlag = 1,
    task_gpus: TaskGpusFlag = 0,
    out: Annotated[Path, typer.Option(help="Folder of the comparison.")] = Path("results/comparison"),
    resume: Annotated[bool, typer.Option("--resume", help="Continue the comparison in --out.")] = False,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Compare search methods at equal numbers of evaluations.

    Writes a table with confidence intervals, all numbers as CSV and JSON, and a figure.
    """
    from haq.reporting.plots.comparison import plot_comparison
    from haq.studies.comparison.tables import as_csv, report

    comparison = Comparison(
        config=config,
        agents=_agents(agents),
        budgets=read_several(budgets),
        seeds=seeds,
        checkpoints=tuple(sorted(_count(each) for each in read_several(at))),
        redraw=redraw,
    )
    executor = workers_of(workers, cluster, task_cpus=task_cpus, task_gpus=task_gpus)
    with resumable(out, kept="everything so far is"), shown_progress(quiet=quiet) as watcher:
        found = compare(comparison, out, resume=resume, executor=executor, watcher=watcher)
    blocks, csv, figure = list(report(found)), as_csv(found), plot_comparison(found)
    finish_study(out / "comparison", found.to_json(), blocks=blocks, csv=csv, figure=figure, json=json)


def _agents(text: str) -> tuple[str, ...]:
    names = read_several(text)
    for name in names:
        if name not in METHODS:
            hint = f"{suggestion(name, METHODS)}; choose from {', '.join(METHODS)}"
            raise UserError(f"--agents: {name!r} is no method{hint}")
    return names


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > MAX_DIGITS or int(text) < 1:
        raise UserError(f"--at {text!r}: write numbers of evaluations with commas, such as 50,100")
    return int(text)

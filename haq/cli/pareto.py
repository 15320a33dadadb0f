"""`haq pareto`: the trade-off between accuracy and cost, over budgets, objectives and devices."""

from pathlib import Path
from typing import Annotated, get_args

import typer

from haq.cli.clusters import ClusterFlag, TaskCpusFlag, TaskGpusFlag, WorkersFlag, workers_of
from haq.cli.flags import ALL_FLAGS, JsonFlag, QuietFlag, SeedsFlag, read_several, with_config
from haq.cli.folders import resumable
from haq.cli.output import draw_figures
from haq.cli.progress import shown_progress
from haq.cli.studies import finish_study
from haq.config import SearchConfig
from haq.errors import UserError
from haq.studies.pareto.plan import Sweep
from haq.studies.pareto.sweep import run_sweep
from haq.studies.pareto.tables import as_csv, report
from hardware_sim.cost import Objective

_FLAGS = tuple(name for name in ALL_FLAGS if name not in ("budget", "max_accuracy_drop", "confidence"))
BudgetsFlag = Annotated[str, typer.Option(help="Budgets, separated by commas: ratios of 8-bit cost, or such as 4bits.")]
DevicesFlag = Annotated[
    str | None, typer.Option(help="Devices, separated by commas.", show_default="that of --hardware")
]
ObjectivesFlag = Annotated[
    str | None, typer.Option(help="Objectives, separated by commas.", show_default="that of --objective")
]
AlsoFlag = Annotated[
    list[str] | None,
    typer.Option(help="Additional budget of every search; repeatable.", metavar="OBJECTIVE=VALUE"),
]
_MORE = typer.Option(
    help="New policies of every further search.", min=1, metavar="N", show_default="0.3 x --episodes in total"
)


@with_config(*_FLAGS)
def pareto_command(
    config: SearchConfig,
    *,
    budgets: BudgetsFlag = "3bits,4bits,5bits",
    devices: DevicesFlag = None,
    objectives: ObjectivesFlag = None,
    also: AlsoFlag = None,
    seeds: SeedsFlag = 1,
    more_episodes: Annotated[int | None, _MORE] = None,
    workers: WorkersFlag = 1,
    cluster: ClusterFlag = None,
    task_cpus: TaskCpusFlag = 1,
    task_gpus: TaskGpusFlag = 0,
    out: Annotated[Path, typer.Option(help="Folder of the sweep.")] = Path("results/pareto"),
    resume: Annotated[bool, typer.Option("--resume", help="Continue the sweep in --out.")] = False,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Search at several budgets and on several devices.

    Writes tables, all numbers as CSV and JSON, and a figure of the Pareto front. The first search takes --episodes. The
    others start from its results and take fewer (--more-episodes).
    """
    from haq.reporting.plots.pareto import plot_pareto

    sweep = Sweep(
        config=config,
        devices=read_several(devices) if devices is not None else (config.hardware,),
        objectives=_objectives(objectives) if objectives is not None else (config.objective,),
        budgets=read_several(budgets),
        also=tuple(also or ()),
        seeds=seeds,
        more_episodes=more_episodes,
    )
    executor = workers_of(workers, cluster, task_cpus=task_cpus, task_gpus=task_gpus)
    with resumable(out, kept="everything so far is"), shown_progress(quiet=quiet) as watcher:
        found = run_sweep(sweep, out, resume=resume, executor=executor, watcher=watcher)
    for record in found.records:
        draw_figures(out / "runs" / record.run)
    blocks, csv, figure = list(report(found)), as_csv(found), plot_pareto(found)
    finish_study(out / "pareto", found.to_json(), blocks=blocks, csv=csv, figure=figure, json=json)


def _objectives(text: str) -> tuple[Objective, ...]:
    names = read_several(text)
    for name in names:
        if name not in get_args(Objective):
            raise UserError(f"--objectives: {name!r} is no objective; choose from {', '.join(get_args(Objective))}")
    return names  # type: ignore[return-value]

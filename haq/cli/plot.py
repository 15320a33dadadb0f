"""`haq plot`: figures of runs and policies."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from haq.cli.flags import DEVICE_FLAGS, MODEL_FLAGS, with_config
from haq.cli.output import say
from haq.cli.screen import literal
from haq.cli.specialization import compare_policies
from haq.config import SearchConfig
from haq.errors import UserError
from haq.experiment.policy_source import policy_source
from haq.files import link_target
from haq.policy import load_policy
from haq.reporting.plots import plot_policy, plot_roofline, plot_run, save_figure
from haq.reporting.plots.pareto import load_sweep, plot_pareto
from haq.reporting.plots.run import PlotKind
from haq.reporting.plots.specialization import plot_specialization
from hardware_sim.catalog import load_accelerator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Kind = Literal["policy", "learning", "sensitivity", "roofline", "specialization", "pareto"]


@with_config(*MODEL_FLAGS, "data", *DEVICE_FLAGS, "objective")
def plot(
    config: SearchConfig,
    sources: Annotated[
        list[Path],
        typer.Argument(help="Folder of a run, or a policy file; several for specialization.", metavar="RUN|POLICY"),
    ],
    kind: Annotated[Kind | None, typer.Option(help="Figure to draw; by default all that apply.")] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(help="Devices of a specialization, separated by commas.", metavar="DEVICE"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A .png or .svg file; by default beside the source.")] = None,
) -> None:
    """Draw figures of a run or policy as PNG or SVG.

    Figures: bits of every layer, learning curve, sensitivities, roofline, Pareto front, and costs of policies on
    several devices (specialization). Roofline and specialization compute costs with the settings of the run, unless
    others are given.
    """
    if kind == "specialization":
        paths = [_save_specialization(sources, config, compare or (), out=out)]
    elif compare:
        raise UserError("--compare is for --kind specialization; a roofline takes one --hardware")
    elif len(sources) > 1:
        raise UserError(f"{len(sources)} sources for one picture; only --kind specialization takes several")
    elif kind == "pareto":
        paths = [_save(plot_pareto(load_sweep(sources[0])), sources[0], out=out, name="pareto.png")]
    elif kind == "roofline":
        paths = [_save(_roofline(sources[0], config), sources[0], out=out, name="roofline.png")]
    else:
        paths = _plot_files(sources[0], kind, out)
    for path in paths:
        print(literal(str(path)))


def _plot_files(source: Path, kind: PlotKind | None, out: Path | None) -> list[Path]:
    """Draw the figures that need only the files of the run or policy."""
    if source.is_dir():
        return plot_run(source, kinds=None if kind is None else (kind,), out=out)
    if kind in ("learning", "sensitivity"):
        drawn = "learning curve" if kind == "learning" else "sensitivities"
        raise UserError(f"{source} is not the folder of a run; a policy file has no {drawn}")
    path = out or source.with_suffix(".png")
    save_figure(plot_policy(load_policy(source)), path if out is None else link_target(out))
    return [path]


def _roofline(source: Path, config: SearchConfig) -> "Figure":
    found = policy_source(source, config, notify=say)
    table = found.priced().table
    return plot_roofline(
        table,
        load_accelerator(found.config.hardware),
        w_bits=found.policy.w_bits,
        a_bits=found.policy.a_bits,
        title=f"{found.config.model} on {table.hardware}, batch {table.batch}",
    )


def _save_specialization(
    sources: Sequence[Path], config: SearchConfig, devices: Sequence[str], *, out: Path | None
) -> Path:
    if out is None and len(sources) > 1:
        raise UserError("a picture of several policies belongs to none of them; say where with --out FILE.png")
    document = compare_policies(sources, config, devices)
    return _save(plot_specialization(document), sources[0], out=out, name="specialization.png")


def _save(figure: "Figure", source: Path, *, out: Path | None, name: str) -> Path:
    """Save a figure to `out`, else into the folder of a run, else beside a policy file with its name as prefix."""
    path = out or (source / name if source.is_dir() else source.with_name(f"{source.stem}-{name}"))
    save_figure(figure, path if out is None else link_target(out))
    return path

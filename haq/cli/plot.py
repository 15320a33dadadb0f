"""`haq plot`: figures of runs and policies."""

from pathlib import Path
from typing import Annotated

import typer

from haq.cli.flags import DEVICE_FLAGS, MODEL_FLAGS, with_config
from haq.cli.output import say
from haq.cli.screen import literal
from haq.config import SearchConfig
from haq.errors import UserError
from haq.files import link_target
from haq.reporting.plots import plot_run, save_figure
from haq.reporting.plots.figures import PlotKind, draw_figure
from haq.reporting.plots.run import PLOTS


@with_config(*MODEL_FLAGS, "data", *DEVICE_FLAGS, "objective")
def plot(
    config: SearchConfig,
    sources: Annotated[
        list[Path],
        typer.Argument(help="Folder of a run, or a policy file; several for specialization.", metavar="RUN|POLICY"),
    ],
    kind: Annotated[PlotKind | None, typer.Option(help="Figure to draw; by default all that apply.")] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(help="Devices of a specialization, separated by commas.", metavar="DEVICE"),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the figure.", show_default="its own")] = None,
    out: Annotated[Path | None, typer.Option(help="A .png, .svg or .pdf file; by default beside the source.")] = None,
) -> None:
    """Draw figures of a run or policy as PNG, SVG or PDF.

    Figures: bits of every layer, learning curve, sensitivities, error of every layer, roofline, Pareto front,
    comparison of search methods, and costs of policies on several devices (specialization). Roofline and specialization
    compute costs with the settings of the run, unless others are given.
    """
    if len(sources) == 1 and kind is None and not compare and sources[0].is_dir():
        paths = plot_run(sources[0], out=out, title=title)
    else:
        if out is None and len(sources) > 1 and kind == "specialization":
            raise UserError("a picture of several policies belongs to none of them; say where with --out FILE.png")
        chosen = kind or "policy"
        figure = draw_figure(sources, chosen, config=config, devices=compare or (), title=title, notify=say)
        path = out or _beside(sources[0], chosen)
        save_figure(figure, path if out is None else link_target(out))
        paths = [path]
    for path in paths:
        print(literal(str(path)))


def _beside(source: Path, kind: PlotKind) -> Path:
    """Return the usual file of a figure: in the folder of a run, or beside a policy file with its name as prefix."""
    files: dict[str, str] = {name: plot.file for name, plot in PLOTS.items()}
    name = files.get(kind, f"{kind}.png")
    if source.is_dir():
        return source / name
    return source.with_suffix(".png") if kind == "policy" else source.with_name(f"{source.stem}-{name}")

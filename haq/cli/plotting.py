"""`haq plot`: pictures of a run or a policy."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from haq.errors import UserError
from haq.plots import plot_policy, plot_run, save_figure
from haq.policy import load_policy

Kind = Literal["policy", "learning"]


def plot(
    source: Annotated[Path, typer.Argument(help="The folder of a run, or a policy file.", metavar="RUN|POLICY")],
    kind: Annotated[Kind | None, typer.Option(help="What to draw; all that apply if not given.")] = None,
    out: Annotated[Path | None, typer.Option(help="A .png or .svg file; without it, into the run.")] = None,
) -> None:
    """Draw the bits of every layer, or how a search learned, as PNG or SVG."""
    if source.is_dir():
        paths = plot_run(source, kinds=None if kind is None else (kind,), out=out)
    elif kind == "learning":
        raise UserError(f"{source} is not the folder of a run; a policy file has no learning curve")
    else:
        path = out or source.with_suffix(".png")
        save_figure(plot_policy(load_policy(source)), path)
        paths = [path]
    for path in paths:
        print(path)

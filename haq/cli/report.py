"""`haq report`: one HTML page on finished runs."""

from pathlib import Path
from typing import Annotated

import typer

from haq.cli.help import GroupedCommand
from haq.cli.screen import literal
from haq.experiment.specialization import device_list

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(cls=GroupedCommand)
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of finished runs, or of haq compare and haq pareto; several are compared.", metavar="RUN..."
        ),
    ],
    compare: Annotated[
        list[str] | None,
        typer.Option(
            help="Devices on which the policies are priced, separated by commas or repeated.",
            show_default="all that are priced in milliseconds",
            metavar="DEVICE",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File of the page.", show_default="report.html in the folder of a single run")
    ] = None,
) -> None:
    """Write one HTML page on finished runs, which needs no network.

    It has the result against budget, float and uniform bits, the bits of every layer with their reasons, errors,
    rooflines, learning curves, other devices, exports, settings and commands; of several runs also a comparison.
    """
    from haq.reporting.page.write import write_report  # matplotlib takes longer to import than all the rest

    print(literal(str(write_report(runs, out, devices=device_list(compare) if compare else None))))

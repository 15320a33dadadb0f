"""The commands by name."""

import typer

from haq.cli import hardware
from haq.cli.evaluating import evaluate
from haq.cli.models import layers, simulate
from haq.cli.plotting import plot
from haq.cli.searching import search

app = typer.Typer(
    name="haq",
    help="How many bits each layer of a trained network gets, on a given accelerator, within a budget.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (search, layers, simulate, evaluate, plot):
    app.command()(command)
app.add_typer(hardware.app, name="hardware")

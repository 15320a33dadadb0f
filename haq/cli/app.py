"""The command line: all commands by name."""

import typer

from haq.cli import hardware, policy
from haq.cli.compare import compare_command
from haq.cli.evaluate import evaluate
from haq.cli.explain import explain_command
from haq.cli.export import export
from haq.cli.finetune import finetune
from haq.cli.help import GroupedCommand
from haq.cli.models import layers, simulate
from haq.cli.pareto import pareto_command
from haq.cli.plot import plot
from haq.cli.reconstruct import reconstruct
from haq.cli.search import search
from haq.cli.sensitivity import sensitivity
from haq.cli.train import train
from haq.cli.verify import verify
from haq.errors import UserError

app = typer.Typer(name="haq", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def haq(context: typer.Context) -> None:
    """Mixed-precision quantization: find the bits of every layer of a network for an accelerator and a budget."""
    if context.invoked_subcommand is None:
        raise UserError("give a command, such as haq search; haq --help lists all of them")


for command in (train, search, layers, simulate, evaluate, sensitivity, finetune, reconstruct, export, verify, plot):
    app.command(cls=GroupedCommand)(command)
app.command("compare", cls=GroupedCommand)(compare_command)
app.command("explain", cls=GroupedCommand)(explain_command)
app.command("pareto", cls=GroupedCommand)(pareto_command)
app.add_typer(hardware.app, name="hardware")
app.add_typer(policy.app, name="policy")

"""The command line: all commands by name."""

from importlib.metadata import version as installed_version
from typing import Annotated

import typer

from haq.cli.lazy_group import Entry, LazyGroup

FIRST_STEPS = """\
haq finds the bits of every layer of a network for a device and a budget.

  haq search                 search a small network for digits, as an example
  haq layers --model MODEL   list the layers of your own network
  haq hardware               list the devices
  haq doctor                 check this installation

haq --help lists all commands, and haq COMMAND --help the options of each."""


class _Commands(LazyGroup):
    """Commands of haq."""

    entries = {  # noqa: RUF012  read only
        "search": Entry("haq.cli.search:search", "Search the bits of every layer under a budget."),
        "train": Entry("haq.cli.train:train", "Train a float network, such as a language model."),
        "layers": Entry("haq.cli.models:layers", "List the quantizable layers of a network."),
        "simulate": Entry("haq.cli.models:simulate", "Compute the costs of policies on a device."),
        "evaluate": Entry("haq.cli.evaluate:evaluate", "Measure the accuracy of a policy on the report split."),
        "sensitivity": Entry("haq.cli.sensitivity:sensitivity", "Measure the loss from quantizing each layer alone."),
        "finetune": Entry("haq.cli.finetune:finetune", "Train a network with its quantizers (QAT)."),
        "reconstruct": Entry("haq.cli.reconstruct:reconstruct", "Fit quantizers to the float outputs, without labels."),
        "export": Entry("haq.cli.export:export", "Export a policy as files that other tools execute."),
        "verify": Entry("haq.cli.verify:verify", "Compare a policy in all runtimes with an exact reference."),
        "plot": Entry("haq.cli.plot:plot", "Draw figures of a run or policy as PNG, SVG or PDF."),
        "report": Entry("haq.cli.report:app", "Write one HTML page on finished runs, which needs no network."),
        "compare": Entry("haq.cli.compare:compare_command", "Compare search methods at equal numbers of evaluations."),
        "explain": Entry("haq.cli.explain:explain_command", "Explain the policy that a search found."),
        "pareto": Entry("haq.cli.pareto:pareto_command", "Search at several budgets and on several devices."),
        "hardware": Entry("haq.cli.hardware:app", "List, show, validate or measure accelerators."),
        "policy": Entry("haq.cli.policy:app", "Show, compare or import policies."),
        "doctor": Entry("haq.cli.doctor:app", "Check the installation."),
    }


app = typer.Typer(name="haq", cls=_Commands, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def haq(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Mixed-precision quantization: find the bits of every layer of a network for an accelerator and a budget."""
    if version:
        typer.echo(f"haq {installed_version('haq')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(FIRST_STEPS)

"""`haq policy`: show and compare policy files, print their schema, and import those of other tools."""

import json as json_module
from pathlib import Path
from typing import Annotated, Any

import typer

from haq.cli.flags import DATA_FLAGS, DEVICE_FLAGS, MODEL_FLAGS, JsonFlag, with_config
from haq.cli.help import GroupedCommand
from haq.cli.output import print_json, print_text, say
from haq.cli.policy_tables import difference_document, print_difference, print_policy
from haq.config import SearchConfig
from haq.costs.pricing import PricedLayers
from haq.errors import UserError
from haq.experiment.loading import load_priced, load_traced
from haq.experiment.policy_source import policy_path
from haq.interchange.read import Format, read_policy
from haq.policy import CostSummary, Policy, load_policy, policy_schema

app = typer.Typer(
    help="Show, compare or import policies.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
)

PolicyPath = Annotated[Path, typer.Argument(help="Policy file, or folder of a run.", metavar="POLICY|RUN")]


@app.callback()
def policy_command(context: typer.Context) -> None:
    """Show, compare or import policies."""
    if context.invoked_subcommand is None:
        raise UserError("give a command, such as haq policy show; haq policy --help lists all of them")


@app.command(cls=GroupedCommand)
def show(policy: PolicyPath, json: JsonFlag = False) -> None:
    """Show a policy.

    Bits and quantizers of every layer, cost, accuracy and budget.
    """
    found = load_policy(policy_path(policy))
    if json:
        print_json(_document(found))
    else:
        print_policy(found)


@app.command(cls=GroupedCommand)
def diff(
    first: Annotated[Path, typer.Argument(help="Policy file, or folder of a run.", metavar="A")],
    second: Annotated[Path, typer.Argument(help="Policy file, or folder of a run.", metavar="B")],
    json: JsonFlag = False,
) -> None:
    """Compare two policies.

    Lists the layers with different bits, and cost and accuracy of both.
    """
    policies = load_policy(policy_path(first)), load_policy(policy_path(second))
    names = str(first), str(second)
    if json:
        print_json(difference_document(*policies, names=names))
    else:
        print_difference(*policies, names=names)


@app.command(cls=GroupedCommand)
def schema() -> None:
    """Print the JSON Schema of policy files."""
    print_json(policy_schema())


@app.command("import", cls=GroupedCommand)
@with_config(*MODEL_FLAGS, *DATA_FLAGS, *DEVICE_FLAGS)
def import_command(
    config: SearchConfig,
    file: Annotated[
        Path,
        typer.Argument(
            help="AIMET encodings, settings of Model Optimizer, layers with bits as JSON, or a table as CSV."
        ),
    ],
    format: Annotated[  # noqa: A002
        Format | None, typer.Option(help="Format of the file.", show_default="by its content")
    ] = None,
    onnx: Annotated[
        Path | None, typer.Option(help="ONNX file that belongs to AIMET encodings and names their activations.")
    ] = None,
    wide_as_float: Annotated[
        bool, typer.Option("--wide-as-float", help="Leave in float what has more than 8 bits.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Policy file to write; printed if not given.")] = None,
    json: JsonFlag = False,
) -> None:
    """Make a policy of a file of another tool.

    Reads the bits of a network's layers, whose names the file must have. Layers that it does not name stay in
    float. With --hardware the policy gets its cost on that device.
    """
    layers = load_traced(config)
    found = read_policy(file, layers.layers, model=config.model, format=format, graph=onnx, wide_as_float=wide_as_float)
    policy = found.policy
    if "hardware" in config.model_fields_set:
        policy = _priced(policy, config, load_priced(config, layers=layers))
    if out is not None:
        policy.save(out)
    for note in found.notes:
        say(f"note: {note}")
    if json:
        print_json(_document(policy))
        return
    print_policy(policy)
    if out is not None:
        print_text(f"written {out}")


def _document(policy: Policy) -> dict[str, Any]:
    document: dict[str, Any] = json_module.loads(policy.to_json())
    return document


def _priced(policy: Policy, config: SearchConfig, priced: PricedLayers) -> Policy:
    """Return the policy with its device and its cost."""
    cost = priced.table.policy_cost(policy.w_bits, policy.a_bits)
    return policy.in_version_2(
        hardware=config.hardware, cost=CostSummary.of(cost), baseline_cost=CostSummary.of(priced.baseline)
    )

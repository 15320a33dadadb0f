"""`haq layers`, `haq simulate`: the layers of a network, and their costs on a device."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from haq.cli.flags import DEVICE_FLAGS, MODEL_FLAGS, JsonFlag, with_config
from haq.cli.output import cost_text, count_text, print_json, print_table, print_text, say
from haq.cli.specialization import print_comparison, print_refused
from haq.config import SearchConfig
from haq.costs.deployment import deployment_target, require_deployable
from haq.costs.pricing import PricedLayers
from haq.costs.simulation import Simulation, simulation
from haq.experiment.loading import load_priced, load_traced
from haq.experiment.policy_source import policy_source
from haq.experiment.specialization import compare_policies, compare_uniform
from haq.formatting import format_count
from haq.layer_bits import LayerBits, uniform_bits
from hardware_sim.layer import Layer

WeightBits = Annotated[int, typer.Option(help="Bits of the weights of every layer.", min=1, max=8)]
ActivationBits = Annotated[int, typer.Option(help="Bits of the activations of every layer.", min=1, max=8)]


@with_config(*MODEL_FLAGS, "data")
def layers(config: SearchConfig, json: JsonFlag = False) -> None:
    """List the quantizable layers of a network.

    Also lists what cannot be quantized and stays in float, with the reason.
    """
    found = load_traced(config)
    if json:
        refused = [asdict(each) for each in found.refused]
        print_json({"model": config.model, "layers": [_document(layer) for layer in found.layers], "refused": refused})
        return
    print_table(
        f"{config.model}: {len(found.layers)} quantizable layers, "
        f"{count_text(sum(layer.weight_count for layer in found.layers))} weights, "
        f"{count_text(sum(layer.macs for layer in found.layers))} MACs",
        ("layer", "kind", "in", "out", "kernel\n/stride", "output", "weights", "MACs"),
        [_row(layer) for layer in found.layers],
        text_columns=2,
    )
    for each in found.refused:
        say(f"left in float: {each}")


@with_config(*MODEL_FLAGS, "data", *DEVICE_FLAGS, "objective")
def simulate(
    config: SearchConfig,
    policies: Annotated[
        list[Path] | None, typer.Argument(help="Policy files or folders of runs; uniform bits if none is given.")
    ] = None,
    compare: Annotated[
        list[str] | None, typer.Option(help="Devices to compare, separated by commas or repeated.", metavar="DEVICE")
    ] = None,
    w_bits: WeightBits = 8,
    a_bits: ActivationBits = 8,
    exclude_first_last: Annotated[
        bool, typer.Option("--exclude-first-last", help="Leave out the first and the last layer.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Compute the costs of policies on a device.

    Latency, energy, size and BOPs of every layer with its bound, and the totals; of uniform bits without a policy.
    """
    paths = policies or []
    if compare:
        devices = [*([config.hardware] if "hardware" in config.model_fields_set else []), *compare]
        matrix = (
            compare_policies(paths, config, devices, exclude_first_last=exclude_first_last, notify=say)
            if paths
            else compare_uniform(config, devices, w_bits=w_bits, a_bits=a_bits, exclude_first_last=exclude_first_last)
        )
        print_json(matrix.to_json()) if json else print_comparison(matrix)
        return
    documents = [_simulate_policy(path, config, exclude_first_last=exclude_first_last) for path in paths]
    if not paths:
        priced = load_priced(config)
        bits = uniform_bits(priced.layers, w_bits=w_bits, a_bits=a_bits)
        require_deployable(deployment_target(config), bits, layers=priced.layers, heads=priced.heads)
        documents = [_simulate(priced, bits, exclude_first_last=exclude_first_last)]
    if json:
        printed = [document.to_json() for document in documents]
        print_json(printed[0] if len(printed) == 1 else printed)
        return
    for document in documents:
        _print_simulation(document)


def _simulate_policy(path: Path, config: SearchConfig, *, exclude_first_last: bool) -> Simulation:
    source = policy_source(path, config, notify=say)
    return _simulate(source.priced(), source.policy.layers, exclude_first_last=exclude_first_last)


def _simulate(priced: PricedLayers, bits: Sequence[LayerBits], *, exclude_first_last: bool) -> Simulation:
    refused = priced.refused
    return simulation(priced.name, priced.table, bits, refused=refused, exclude_first_last=exclude_first_last)


def _document(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "kind": layer.kind,
        "macs": layer.macs,
        "weight_count": layer.weight_count,
        "kernel": list(layer.kernel),
        "stride": list(layer.stride),
        "groups": layer.groups,
        "c_in": layer.c_in,
        "c_out": layer.c_out,
        "input_size": list(layer.input_size),
        "output_size": list(layer.output_size),
        "tied_to": layer.tied_to,
    }


def _row(layer: Layer) -> tuple[str, ...]:
    is_grouped = layer.groups > 1 and layer.kind != "depthwise"
    kind = f"{layer.kind}, {layer.groups} groups" if is_grouped else layer.kind
    stride = str(layer.stride[0]) if len(set(layer.stride)) == 1 else _size(layer.stride)
    numbers = (format_count(layer.weight_count), format_count(layer.macs))
    kernel = f"{_size(layer.kernel)}/{stride}"
    return (layer.name, kind, str(layer.c_in), str(layer.c_out), kernel, _size(layer.output_size), *numbers)


def _size(size: Sequence[int]) -> str:
    return "x".join(map(str, size))


def _print_simulation(document: Simulation) -> None:
    totals, batch = document.totals, document.batch
    rows = [
        (
            layer.name,
            layer.kind,
            layer.bound or "-",
            f"{_bits(layer.w_bits)}/{_bits(layer.a_bits)}",
            "-" if layer.cycles is None else format_count(layer.cycles).replace(" ", ""),
            cost_text("latency", layer.latency_s),
            cost_text("energy", layer.energy_j),
            cost_text("size", layer.weight_bytes),
        )
        for layer in document.layers
    ]
    columns = ("layer", "kind", "bound", "w/a", "cycles", "latency", "energy", "weights")
    print_table(f"{document.model} on {document.hardware}", columns, rows, text_columns=3)
    included = "included" if document.first_and_last_layer_included else "left out"
    print_text(
        f"latency {cost_text('latency', totals.latency_s)} for a batch of {batch}, "
        f"{cost_text('latency', totals.latency_per_image_s)} an image; first and last layer {included}"
    )
    energy_j = totals.energy_j
    print_text("energy  not modelled" if energy_j is None else f"energy  {cost_text('energy', energy_j)} for the batch")
    print_text(
        f"size    {cost_text('size', totals.weight_bytes)} of weights "
        f"and {cost_text('size', totals.overhead_bytes)} of scales, zero points and biases"
    )
    print_text(f"BOPs    {cost_text('bops', totals.bops)} an image, {count_text(totals.macs)} MACs")
    for limit in document.limits:
        print_text(f"limit   {limit}{', which is too much' if limit.is_exceeded else ''}")
    print_refused(document.refused)
    for note in document.notes:
        print_text(f"note: {note}")


def _bits(bits: int | None) -> str:
    return "float" if bits is None else str(bits)

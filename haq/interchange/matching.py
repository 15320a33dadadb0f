"""Bits of a file matched to the layers of a network by their names."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from haq.errors import UserError
from haq.interchange.given_bits import GivenBits, ImportedBits
from haq.interchange.layer_names import LayerNames
from haq.layer_bits import LayerBits
from hardware_sim.cost import Bits
from hardware_sim.layer import Layer

POLICY_BITS = 8
"""Widest integers of a policy."""
LONGEST_NAME = 100
"""Characters of a name that messages show."""
Graph = Mapping[str, Sequence[str]]
"""Names of the tensors that a layer reads, the nearest first, by layer."""


@dataclass(frozen=True, slots=True)
class Matched:
    """Bits of the layers of a network.

    Attributes:
        layers: Bits of all layers; None where the file gives none.
        notes: What was left out or decided, one line each.
    """

    layers: tuple[LayerBits, ...]
    notes: tuple[str, ...]


def match(found: ImportedBits, layers: Sequence[Layer], *, graph: Graph | None, wide_as_float: bool) -> Matched:
    """Assign the bits of a file to the layers of a network.

    Args:
        found: Content of the file.
        layers: Layers of the network.
        graph: Tensors that each layer reads; None if no graph is given.
        wide_as_float: Leave in float what has more than 8 bits, which is refused otherwise.

    Returns:
        Bits of all layers.

    Raises:
        UserError: Names match no layer, a layer has several bits, or more than 8.
    """
    names = LayerNames(layers)
    tensors = (*found.tensors, *(each for each in found.undecided if names.of_parameter(each.name) is None))
    weights = _by_layer((*found.weights, *found.undecided), names)
    outputs = _by_layer((*found.outputs, *found.tensors), names)
    read, note = _read_tensors(tensors, names, graph, quantized=weights, wide_as_float=wide_as_float)
    notes = [*found.notes, *_unmatched(found, names, layers), *([note] if note else [])]
    inputs = read | _inputs_by_output(outputs, layers) | _by_layer(found.inputs, names)
    bits = []
    for layer in layers:
        pair = [_bits(part, layer, wide_as_float=wide_as_float) for part in (weights, inputs)]
        bits.append(LayerBits(name=layer.name, kind=layer.kind, w_bits=pair[0], a_bits=pair[1]))
    return Matched(tuple(bits), (*notes, *_left_in_float(layers, weights, inputs)))


def _by_layer(given: Iterable[GivenBits], names: LayerNames) -> dict[str, GivenBits]:
    """Return bits by the name of their layer; those of other names are left out."""
    found: dict[str, GivenBits] = {}
    for each in given:
        layer = names.of_parameter(each.name)
        if layer is None:
            continue
        if found.setdefault(layer, each).bits != each.bits:
            raise UserError(f"{each.place}: {layer} has other bits in {found[layer].place}")
    return found


def _unmatched(found: ImportedBits, names: LayerNames, layers: Sequence[Layer]) -> list[str]:
    """Return a note about names that are no layers; raise UserError if they have to be, or if no name is one."""
    given = [*found.weights, *found.inputs, *found.outputs]
    others = [each for each in given if names.of_parameter(each.name) is None and not names.is_bias(each.name)]
    is_any = any(names.of_parameter(each.name) is not None for each in (*given, *found.undecided))
    if is_any and not others:
        return []
    others = others or [*found.undecided, *found.tensors]
    if not others:
        raise UserError("no bits for any layer")
    close = get_close_matches(others[0].name[:LONGEST_NAME], [layer.name for layer in layers], n=1, cutoff=0.0)
    shown = others[0].name[:LONGEST_NAME]
    text = f"{others[0].place}: {shown!r} is no layer of the network; the most similar is {close[0]!r}"
    if len(others) > 1:
        text = f"{len(others)} names are no layers of the network, such as {text}"
    if not found.may_have_others or not is_any:
        raise UserError(text)
    return [text]


def _inputs_by_output(outputs: Mapping[str, GivenBits], layers: Sequence[Layer]) -> dict[str, GivenBits]:
    """Return the bits of each layer's input from those of the layers that write it; the widest of several."""
    written = {layer.output_tensor: outputs[layer.name] for layer in layers if layer.name in outputs}
    found = {}
    for layer in layers:
        parts = [written[tensor] for tensor in layer.input_tensors if tensor in written]
        if parts:
            found[layer.name] = max(parts, key=lambda part: math.inf if part.bits is None else part.bits)
    return found


def _read_tensors(
    tensors: Sequence[GivenBits],
    names: LayerNames,
    graph: Graph | None,
    *,
    quantized: Mapping[str, GivenBits],
    wide_as_float: bool,
) -> tuple[dict[str, GivenBits], str | None]:
    """Return the bits of inputs by layer from those of activation tensors, and a note on how they were found."""
    by_name = {each.name: each for each in tensors}
    found = {layer: each for each in tensors if (layer := names.of_input(each.name)) is not None}
    activations = [each for each in tensors if not names.is_bias(each.name) and not names.is_known(each.name)]
    if graph is not None:
        for layer, read in graph.items():
            nearest = next((by_name[name] for name in read if name in by_name), None)
            if nearest is not None:
                found.setdefault(layer, nearest)
        return found, None
    if not activations:
        return found, None
    widths = {each.bits for each in activations}
    first = activations[0].name[:LONGEST_NAME]
    if len(widths) > 1:
        raise UserError(
            f"{len(activations)} activations of different bits are named by tensors of a graph, such as {first!r}; "
            "give the ONNX file that belongs to these encodings with --onnx"
        )
    for layer, weight in quantized.items():
        if weight.bits is not None:
            found.setdefault(layer, activations[0])
    bits = activations[0].bits
    text, verb = ("are in float", "are") if bits is None else (f"have {bits} bits", "have")
    if bits is not None and wide_as_float and bits > POLICY_BITS:
        text, verb = f"{text}, which stay in float", "do"
    return (
        found,
        f"all {len(activations)} activations {text}: so {verb} the inputs of the layers with quantized weights",
    )


def _bits(given: Mapping[str, GivenBits], layer: Layer, *, wide_as_float: bool) -> Bits:
    """Return the bits of a layer, or of the one that it is tied to."""
    found = given.get(layer.name) or given.get(layer.tied_to or "")
    if found is None or found.bits is None:
        return None
    if found.bits <= POLICY_BITS:
        return found.bits
    if wide_as_float:
        return None
    raise UserError(
        f"{found.place}: {found.bits} bits, but a policy has 1 to {POLICY_BITS} or float; "
        "--wide-as-float leaves more in float"
    )


def _left_in_float(
    layers: Sequence[Layer], weights: Mapping[str, GivenBits], inputs: Mapping[str, GivenBits]
) -> Iterator[str]:
    """Yield notes about what stays in float because the file does not name it: layers, or their weights or inputs."""
    missing: dict[str, list[str]] = {"": [], "weights of ": [], "inputs of ": []}
    for layer in layers:
        names = {layer.name, layer.tied_to}
        left = names.isdisjoint(weights), names.isdisjoint(inputs) and layer.kind != "embedding"  # reads indices
        if any(left):
            missing["" if all(left) else "weights of " if left[0] else "inputs of "].append(layer.name)
    for part, found in missing.items():
        if found:
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            yield f"left in float, since the file gives no bits: {part}{', '.join(found[:3])}{more}"

"""Names of an exported graph: inputs and outputs as the network has them, tensors and nodes after their layer."""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import get_args

import onnx
from torch import nn

from haq.evaluation.engines.onnxruntime.marking import INPUT, MARKS, SECOND_INPUT, WEIGHT, layer_of
from haq.evaluation.engines.onnxruntime.template import Template
from haq.execution.structures import Structure
from haq.quantization.operands import Operand

ACTIVATIONS: tuple[Operand, ...] = get_args(Operand)
"""Operands of a layer that are activations; a product of two activations has both."""
FACTORS = ("weight", "second_input")
"""What a layer multiplies its input with: weights, or the second operand of a product of two activations."""
_FACTOR_ENDINGS = tuple(f".{part}" for part in FACTORS)
_PARTS = {INPUT: "input", WEIGHT: "weight", SECOND_INPUT: "second_input"}
_NAMED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def input_names(model: nn.Module, example: Structure) -> list[str]:
    """Return names for the inputs of a network: its parameters, or the keys of a dict.

    Args:
        model: Network.
        example: Input of one item.

    Returns:
        A name for each tensor of the example, in order.
    """
    if isinstance(example, Mapping):
        return list(_paths(example, ""))
    parameters = inspect.signature(model.forward).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind in _NAMED]
    parts = example if isinstance(example, tuple) else (example,)
    names = [*known, *(f"input_{place}" for place in range(len(known), len(parts)))]
    return [path for name, part in zip(names, parts, strict=False) for path in _paths(part, name)]


def output_names(outputs: Structure) -> list[str]:
    """Return names for the outputs of a network: `output`, `output.0`, or the keys of a dict.

    Args:
        outputs: Outputs of the network.

    Returns:
        A name for each tensor, in order.
    """
    return list(_paths(outputs, "" if isinstance(outputs, Mapping) else "output"))


def _paths(structure: Structure, name: str) -> Iterator[str]:
    """Yield a name for each tensor of a structure."""
    if isinstance(structure, Mapping | list | tuple):
        items = structure.items() if isinstance(structure, Mapping) else enumerate(structure)
        for key, part in items:
            yield from _paths(part, f"{name}.{key}" if name else str(key))
    elif hasattr(structure, "is_floating_point"):
        yield name


def tensor_names(template: Template, inputs: list[str], outputs: list[str]) -> dict[str, str]:
    """Return new names for the tensors of a graph that belong to inputs, outputs and layers.

    Args:
        template: Template that the graph was lowered from.
        inputs: Names of its inputs.
        outputs: Names of its outputs.

    Returns:
        New names by old ones. A layer has `LAYER.input` and `LAYER.weight`, which it multiplies, and `LAYER.output`; a
        product of two activations has `LAYER.second_input` in place of weights.
    """
    graph = template.marked.graph
    names = {product.output: f"{product.name}.output" for product in template.products}
    for node in template.nodes:
        if node.domain == MARKS and node.op_type in _PARTS:
            names[node.output[0]] = f"{template.products[layer_of(node)].name}.{_PARTS[node.op_type]}"
    names |= {value.name: name for value, name in zip(graph.output, outputs, strict=True)}
    return names | {value.name: name for value, name in zip(graph.input, inputs, strict=True)}


def rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> dict[str, str]:
    """Rename tensors of a graph, and name each node after its layer or its first output, and its operator.

    Args:
        graph: Graph, changed in place.
        names: New names by old ones. A tensor that has a new name already, but is another one, gets a number.

    Returns:
        New names by old ones of all tensors that were renamed.
    """
    factors = {name for name in names.values() if name.endswith(_FACTOR_ENDINGS)}
    names = _without_clashes(graph, names)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        factor = next((name for name in node.input if name in factors), None)
        node.name = f"{node.output[0] if factor is None else factor.rpartition('.')[0]}/{node.op_type}"
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = names.get(value.name, value.name)
    return names


def factor_names(layers: Iterable[str]) -> dict[str, str]:
    """Return the tensors that layers multiply their inputs with.

    Args:
        layers: Names of the layers.

    Returns:
        Layers by the name of the tensor, of which a layer has one.
    """
    return {f"{layer}.{part}": layer for layer in layers for part in FACTORS}


def activation_names(layers: Iterable[str]) -> dict[str, str]:
    """Return the tensors that layers multiply and that are activations.

    Args:
        layers: Names of the layers.

    Returns:
        Layers by the name of the tensor; products of two activations have two.
    """
    return {f"{layer}.{part}": layer for layer in layers for part in ACTIVATIONS}


def _without_clashes(graph: onnx.GraphProto, names: Mapping[str, str]) -> dict[str, str]:
    """Return the names, changed where two tensors would have the same."""
    tensors = [value.name for value in (*graph.input, *graph.output, *graph.initializer)]
    tensors += [name for node in graph.node for name in node.output]
    found: dict[str, str] = {}
    taken: set[str] = set()
    ordered = dict.fromkeys(tensors)
    for old in sorted(ordered, key=lambda name: name not in names):  # those with a new name come first
        wanted = new = names.get(old, old)
        number = 1
        while new in taken:
            number += 1
            new = f"{wanted}_{number}"
        taken.add(new)
        if new != old:
            found[old] = new
    return found

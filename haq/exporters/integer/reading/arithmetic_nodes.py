"""Reading of functions of single values, and of sums and products of tensors."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from onnx import helper

from haq.evaluation.engines.onnxruntime.template import Affine, Node
from haq.exporters.integer.reading import functions
from haq.exporters.integer.reading.functions import Floats, Function
from haq.exporters.integer.reading.layer_nodes import read_affine
from haq.exporters.integer.reading.state import GraphState, refuse
from haq.exporters.integer.reading.steps import ElementwiseStep, Value

_NEGATIVE = Function("negative", None, np.negative)
_UNCHANGED = ("Identity", "Dropout", "Cast")


def read_pointwise(state: GraphState, node: Node) -> None:
    """Read a node that computes every entry of its output from the entries at the same place.

    Args:
        state: State of the reading.
        node: The node.
    """
    values = {name: state.values[name] for name in node.input if name in state.values}
    sizes = [state.constants[name].size for name in node.input if name in state.constants]
    if node.op_type in _UNCHANGED or not state.biases.isdisjoint(node.input):
        state.values[node.output[0]] = next(iter(values.values()))  # biases of products are part of their steps
        return
    if not _share_root(values):
        _read_elementwise(state, node, list(values.values()))
    elif all(size == 1 for size in sizes):
        _read_function(state, node, values)
    else:
        _read_per_channel(state, node, next(iter(values.values())))


def _share_root(values: Mapping[str, Value]) -> bool:
    return len({(value.root, value.padding) for value in values.values()}) == 1


def _read_function(state: GraphState, node: Node, values: Mapping[str, Value]) -> None:
    bounds, (first, *_) = _bounds(state, node), values.values()
    if bounds is not None:
        state.values[node.output[0]] = state.applied(first, functions.clip(*bounds))
        return
    function = _function(state, node, values)
    if any(first.padding) and not function.keeps_zero:
        values = {name: state.plain(value) for name, value in values.items()}
        if not _share_root(values):
            refuse(node, " of padded tensors")
        (first, *_), function = values.values(), _function(state, node, values)
    state.values[node.output[0]] = Value(first.root, function, first.padding)


def _function(state: GraphState, node: Node, values: Mapping[str, Value]) -> Function:
    """Return a node as a function of the root of its inputs."""
    parts: list[Any] = [
        values[name].function
        if name in values
        else state.constants[name].astype(np.float64).reshape(-1)
        if name
        else None
        for name in node.input
    ]
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}

    def apply(x: Floats) -> Floats:
        inputs = [part.apply(x) if isinstance(part, Function) else part for part in parts]
        return functions.evaluate(node.op_type, inputs, attributes)

    return Function(node.output[0], None, apply)


def _bounds(state: GraphState, node: Node) -> tuple[float, float] | None:
    """Return the bounds of a clip; None for other nodes."""
    if node.op_type == "Relu":
        return 0.0, math.inf
    if node.op_type != "Clip":
        return None
    low, high = [*node.input[1:], "", ""][:2]
    return (
        float(state.constants[low].item()) if low else -math.inf,
        float(state.constants[high].item()) if high else math.inf,
    )


def _read_elementwise(state: GraphState, node: Node, values: list[Value]) -> None:
    if len(values) != 2 or node.op_type not in ("Add", "Sub", "Mul"):
        refuse(node, " of several tensors")
    first, second = (state.plain(value) for value in values)
    second = state.applied(second, _NEGATIVE) if node.op_type == "Sub" else second
    if math.prod(state.shape(first)) < math.prod(state.shape(second)):
        first, second = second, first
    shape, other = state.shape(first), state.shape(second)
    if other not in (shape, (shape[0], 1, 1)):
        refuse(node, f" of shapes {list(shape)} and {list(other)}")
    operator: Literal["add", "multiply"] = "multiply" if node.op_type == "Mul" else "add"
    state.append(ElementwiseStep(operator=operator, output=node.output[0], shape=shape, sources=(first, second)))


def _read_per_channel(state: GraphState, node: Node, value: Value) -> None:
    """Read a sum or product of a tensor with one constant per channel."""
    constants = [state.constants[name].astype(np.float64) for name in node.input if name in state.constants]
    shape, is_first = state.shape(value), node.input[0] in state.constants
    if (
        len(constants) != 1
        or node.op_type not in ("Add", "Sub", "Mul", "Div")
        or (node.op_type, is_first) == ("Div", True)
    ):
        refuse(node, " with constants of several values")
    vector = constants[0].reshape(-1)
    aligned = (1, *constants[0].shape)[-len(shape) :]
    if vector.size != shape[0] or aligned != (shape[0], *(1 for _ in shape[1:])):
        refuse(node, " with a constant that is not one value per channel")
    ones, zeros = np.ones_like(vector), np.zeros_like(vector)
    affines = {
        "Add": lambda: Affine(ones, vector),
        "Sub": lambda: Affine(-ones, vector) if is_first else Affine(ones, -vector),
        "Mul": lambda: Affine(vector, zeros),
        "Div": lambda: Affine(1 / vector, zeros),
    }
    read_affine(state, node, affines[node.op_type](), name=node.output[0])

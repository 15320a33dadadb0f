"""Reading of layers and of batch norms that follow no layer."""

from typing import Any

import numpy as np

from haq.errors import UserError
from haq.evaluation.engines.onnxruntime.marking import attribute, epsilon_of, norm_of
from haq.evaluation.engines.onnxruntime.template import Affine, Node, Norm
from haq.exporters.integer.reading.functions import clip
from haq.exporters.integer.reading.state import ELSEWHERE, GraphState, Shape, refuse
from haq.exporters.integer.reading.steps import NO_PADDING, ProductStep, Value
from haq.exporters.integer.reading.windows import windows_of


def read_input(state: GraphState, mark: Node) -> None:
    """Read the mark of a layer's input, with the activation function that was removed before it.

    Args:
        state: State of the reading.
        mark: The mark.
    """
    value, activation = state.values[mark.input[0]], state.template.activations.get(mark.output[0])
    if activation is not None:
        value = state.applied(value, clip(activation.low, activation.high))
    state.values[mark.output[0]] = value


def read_product(state: GraphState, node: Node) -> None:
    """Read the product of a layer.

    Args:
        state: State of the reading.
        node: The product.

    Raises:
        UserError: The layer has no integer form.
    """
    layers = [state.weights[name] for name in node.input if name in state.weights]
    if len(layers) != 1:
        refuse(node, " of two computed tensors")
    product = state.template.products[layers[0]]
    if product.operator not in ("Conv", "Gemm", "MatMul") or node.input[0] not in state.values:
        raise UserError(f"layer {product.name} ({product.operator}) cannot be computed in integers alone; {ELSEWHERE}")
    affine = product.affine(layers[0], state.corrections)
    value = state.values[node.input[0]]
    parts: dict[str, Any] = {"name": product.name, "output": product.output, "layer": layers[0], "affine": affine}
    if product.operator == "Conv":
        parts |= _convolution(state, node, value, product.name)
    elif len(state.shape(value)) == 1:
        parts |= {"source": value, "shape": affine.offset.shape}
    else:
        raise UserError(f"layer {product.name} reads several vectors per input, not one; {ELSEWHERE}")
    state.append(ProductStep(**parts), node.output[0])


def read_norm(state: GraphState, mark: Node) -> None:
    """Read a batch norm that follows no layer.

    Args:
        state: State of the reading.
        mark: Its mark.
    """
    if not all(name in state.constants for name in mark.input[1:]):
        refuse(mark, " with computed statistics")
    gamma, beta, mean, variance = (state.constants[name].astype(np.float64) for name in mark.input[1:])
    norm = Norm(norm_of(mark), gamma, beta, mean, variance, epsilon_of(mark))
    affine = norm.affine(state.corrections.statistics.get(norm.name))
    path, call = norm.name
    name = path.removesuffix(".running_mean") + (f":{call}" if call > 1 else "")
    read_affine(state, mark, affine, name=name)


def read_affine(state: GraphState, node: Node, affine: Affine, *, name: str) -> None:
    """Read a scale and an offset per channel.

    Args:
        state: State of the reading.
        node: Node that applies them to its only computed input.
        affine: Scale and offset.
        name: Name of the step.
    """
    value, output = state.plain(next(state.values[each] for each in node.input if each in state.values)), node.output[0]
    shape = state.shape(value)
    if len(shape) == 3:
        state.append(_channel_product(name, output, shape, value, affine))
        return
    image = (shape[0], 1, 1)
    value = state.flattened(value, image, f"{output}.source")
    value = state.append(_channel_product(name, output, image, value, affine))
    state.values[output] = state.flattened(value, shape, f"{output}.flat")


def _channel_product(name: str, output: str, shape: Shape, value: Value, affine: Affine) -> ProductStep:
    return ProductStep(name=name, output=output, shape=shape, source=value, layer=None, affine=affine, groups=shape[0])


def _convolution(state: GraphState, node: Node, value: Value, name: str) -> dict[str, Any]:
    """Return the attributes of the step of a convolution; zeros around its input become its padding."""
    shape, kernel = state.shape(value), attribute(node, "kernel_shape", [])
    if len(shape) != 3 or len(kernel) != 2:
        raise UserError(f"layer {name} is no convolution over images; {ELSEWHERE}")
    windows = windows_of(node, shape[1:], (int(kernel[0]), int(kernel[1])))
    own, given = windows.padding, value.padding
    channels = len(state.template.products[state.weights[node.input[1]]].bias)
    return {
        "source": Value(value.root, value.function, NO_PADDING),
        "shape": (channels, *windows.counts),
        "stride": windows.stride,
        "padding": tuple(mine + theirs for mine, theirs in zip(own, given, strict=True)),
        "dilation": windows.dilation,
        "groups": int(attribute(node, "group", 1)),
    }

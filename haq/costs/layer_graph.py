"""ONNX models of single layers with random weights, in float32 or int8, for measuring their latency."""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from haq.errors import UserError
from hardware_sim.layer import Layer, LayerKind

OPSET, IR_VERSION = 17, 8
"""Supported by every onnxruntime in use; the operators here have not changed since."""
INPUT_SCALE, WEIGHT_SCALE, OUTPUT_SCALE = 0.02, 0.01, 0.5
INPUT_ZERO, OUTPUT_ZERO = 0, 128
"""Zero points of unsigned inputs, as after a ReLU, and of signed outputs."""


class Shape(NamedTuple):
    """Operator of a layer in ONNX, with its shapes.

    Attributes:
        operator: Name of the ONNX operator.
        inputs: Shape of the input.
        weights: Shape of the weights.
        channel_axis: Axis of the weights with one scale per entry; None for one scale for all.
        attributes: Attributes of the operator.
    """

    operator: str
    inputs: tuple[int, ...]
    weights: tuple[int, ...]
    channel_axis: int | None
    attributes: Mapping[str, Any]


def layer_graph(layer: Layer, *, batch: int, is_int8: bool, generator: np.random.Generator) -> bytes:
    """Build a model of one layer with input `x`, output `y` and random weights.

    In int8, `x` and `y` are integers, so that only the layer itself takes time: the operator is surrounded by
    quantizers in the form that runtimes fuse into one integer kernel.

    Args:
        layer: The layer.
        batch: Size of the batch.
        is_int8: Whether weights and activations are 8-bit integers instead of float32.
        generator: Source of the weights.

    Returns:
        The serialized model.

    Raises:
        UserError: A layer of this kind cannot be timed alone.
    """
    shape = onnx_shape(layer, batch=batch)
    weights = generator.integers(-127, 128, shape.weights, dtype=np.int8)
    nodes, tensors = _int8(shape, weights) if is_int8 else _float32(shape, weights)
    element = TensorProto.UINT8 if is_int8 else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        layer.kind,
        [helper.make_tensor_value_info("x", element, shape.inputs)],
        [helper.make_tensor_value_info("y", element, None)],
        [numpy_helper.from_array(values, name) for name, values in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    content: bytes = model.SerializeToString()
    return content


def onnx_shape(layer: Layer, *, batch: int) -> Shape:
    """Return the ONNX operator of a layer with its shapes and attributes.

    Args:
        layer: The layer.
        batch: Size of the batch.

    Returns:
        Operator and shapes.

    Raises:
        UserError: A layer of this kind cannot be timed alone.

    >>> onnx_shape(Layer(name="fc", kind="linear", c_in=8, c_out=4, output_size=(5, 1)), batch=2).inputs
    (10, 8)
    """
    if layer.kind not in _SHAPES:
        raise UserError(f"layer {layer.name!r} ({layer.kind}) cannot be measured, only {', '.join(_SHAPES)}")
    return _SHAPES[layer.kind](layer, batch)


def _linear(layer: Layer, batch: int) -> Shape:
    return Shape("MatMul", (batch * prod(layer.output_size), layer.c_in), (layer.c_in, layer.c_out), 1, {})


def _conv(layer: Layer, batch: int) -> Shape:
    weights = (layer.c_out, layer.c_in // layer.groups, *layer.kernel)
    padding = [
        max(0, (out - 1) * stride + dilation * (kernel - 1) + 1 - size)
        for size, out, kernel, stride, dilation in _axes(layer)
    ]
    return Shape("Conv", (batch, layer.c_in, *layer.input_size), weights, 0, _attributes(layer, padding))


def _conv_transpose(layer: Layer, batch: int) -> Shape:
    weights = (layer.c_in, layer.c_out // layer.groups, *layer.kernel)
    surplus = [
        (size - 1) * stride + dilation * (kernel - 1) + 1 - out for size, out, kernel, stride, dilation in _axes(layer)
    ]
    attributes = {
        **_attributes(layer, [max(0, each) for each in surplus]),
        "output_padding": [max(0, -each) for each in surplus],
    }
    return Shape("ConvTranspose", (batch, layer.c_in, *layer.input_size), weights, None, attributes)


def _axes(layer: Layer) -> Any:
    return zip(layer.input_size, layer.output_size, layer.kernel, layer.stride, layer.dilation, strict=True)


def _attributes(layer: Layer, padding: list[int]) -> dict[str, Any]:
    """Return the attributes of a convolution; `padding` is the sum of both sides for each axis."""
    begins = [each // 2 for each in padding]  # ONNX expects all begins, then all ends
    ends = [each - begin for each, begin in zip(padding, begins, strict=True)]
    return {
        "kernel_shape": layer.kernel,
        "strides": layer.stride,
        "dilations": layer.dilation,
        "group": layer.groups,
        "pads": [*begins, *ends],
    }


_SHAPES: Mapping[LayerKind, Callable[[Layer, int], Shape]] = {
    "conv": _conv,
    "depthwise": _conv,
    "conv_transpose": _conv_transpose,
    "linear": _linear,
}

Nodes = list[onnx.NodeProto]
Tensors = dict[str, NDArray[Any]]


def _float32(shape: Shape, weights: NDArray[np.int8]) -> tuple[Nodes, Tensors]:
    node = helper.make_node(shape.operator, ["x", "w"], ["y"], **shape.attributes)
    return [node], {"w": weights.astype(np.float32) * np.float32(WEIGHT_SCALE)}


def _int8(shape: Shape, weights: NDArray[np.int8]) -> tuple[Nodes, Tensors]:
    axis = shape.channel_axis
    scales = () if axis is None else (shape.weights[axis],)
    tensors: Tensors = {
        "w": weights,
        "w_scale": np.full(scales, WEIGHT_SCALE, dtype=np.float32),
        "w_zero": np.zeros(scales, dtype=np.int8),
        "x_scale": np.array(INPUT_SCALE, dtype=np.float32),
        "x_zero": np.array(INPUT_ZERO, dtype=np.uint8),
        "y_scale": np.array(OUTPUT_SCALE, dtype=np.float32),
        "y_zero": np.array(OUTPUT_ZERO, dtype=np.uint8),
    }
    per_channel: dict[str, Any] = {} if axis is None else {"axis": axis}
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "x_scale", "x_zero"], ["x_float"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["w_float"], **per_channel),
        helper.make_node(shape.operator, ["x_float", "w_float"], ["y_float"], **shape.attributes),
        helper.make_node("QuantizeLinear", ["y_float", "y_scale", "y_zero"], ["y"]),
    ]
    return nodes, tensors

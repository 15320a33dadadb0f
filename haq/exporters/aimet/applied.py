"""Encodings applied to the graph beside them, as an ONNX graph with quantizers."""

import json

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from pydantic import BaseModel, ConfigDict, TypeAdapter

from haq.evaluation.engines.onnxruntime.codes import align_channels


class _Encoding(BaseModel):
    """Encoding of version 2.0.0."""

    model_config = ConfigDict(frozen=True)

    name: str
    output_dtype: str
    y_scale: float | list[float]
    y_zero_point: int = 0
    axis: int = 0

    @property
    def bits(self) -> int:
        """Bit width."""
        return int(self.output_dtype.removeprefix("u").removeprefix("int"))


_ENCODINGS = TypeAdapter(list[_Encoding])


def apply_encodings(model: onnx.ModelProto, encodings: bytes) -> onnx.ModelProto:
    """Quantize the tensors of a float graph.

    Args:
        model: Float graph.
        encodings: Content of a file of version 2.0.0, of up to 8 bits.

    Returns:
        A copy with rounded weights, and quantizers behind the encoded tensors: what reads the tensor NAME reads
        `quantized_name(NAME)`.
    """
    found = onnx.ModelProto()
    found.CopyFrom(model)
    constants = {tensor.name: tensor for tensor in found.graph.initializer}
    for encoding in _ENCODINGS.validate_python(json.loads(encodings)["encodings"]):
        if encoding.name in constants:
            tensor = constants[encoding.name]
            tensor.CopyFrom(numpy_helper.from_array(_rounded(numpy_helper.to_array(tensor), encoding), tensor.name))
        else:
            _quantize(found.graph, encoding)
    return found


def quantized_name(tensor: str) -> str:
    """Return the name of a tensor after its quantizer.

    Args:
        tensor: Name of the tensor.

    Returns:
        The name.
    """
    return f"{tensor}.quantized"


def _rounded(values: NDArray[np.float32], encoding: _Encoding) -> NDArray[np.float32]:
    """Return weights on a symmetric signed grid."""
    low, high = -(1 << encoding.bits - 1), (1 << encoding.bits - 1) - 1
    scale = align_channels(np.array(encoding.y_scale, np.float32).reshape(-1), values.ndim, encoding.axis)
    codes = np.clip(np.rint(values / scale), low, high)
    return np.asarray(codes * scale, np.float32)


def _quantize(graph: onnx.GraphProto, encoding: _Encoding) -> None:
    """Add the quantizer of a tensor in floats, as onnxruntime would move QuantizeLinear across other operators."""
    name, end = encoding.name, quantized_name(encoding.name)
    for node in graph.node:
        node.input[:] = [end if each == name else each for each in node.input]
    low = -encoding.y_zero_point
    numbers = {"scale": encoding.y_scale, "low": low, "high": low + (1 << encoding.bits) - 1}
    constants = {f"{name}.{part}": np.array(value, np.float32) for part, value in numbers.items()}
    graph.initializer.extend(numpy_helper.from_array(value, part) for part, value in constants.items())
    scale, *bounds = constants
    nodes = [
        helper.make_node("Div", [name, scale], [f"{name}.steps"]),
        helper.make_node("Round", [f"{name}.steps"], [f"{name}.rounded"]),
        helper.make_node("Clip", [f"{name}.rounded", *bounds], [f"{name}.codes"]),
        helper.make_node("Mul", [f"{name}.codes", scale], [end]),
    ]
    producer = next((place for place, node in enumerate(graph.node) if name in node.output), -1)
    for offset, node in enumerate(nodes, start=producer + 1):
        graph.node.insert(offset, node)

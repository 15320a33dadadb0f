"""Graph cut at tensors, so that what reads them is computed from tensors that are fed."""

from collections.abc import Mapping, Sequence

import onnx
from onnx import TensorProto, helper


def cut_at(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> onnx.ModelProto:
    """Cut a graph at float tensors.

    Args:
        model: Graph.
        shapes: Shapes of the tensors by name.

    Returns:
        A copy in which the tensors are outputs, and all that reads one reads the input `given_name(NAME)`.
    """
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    for node in cut.graph.node:
        node.input[:] = [given_name(name) if name in shapes else name for name in node.input]
    for name, shape in shapes.items():
        cut.graph.input.append(helper.make_tensor_value_info(given_name(name), TensorProto.FLOAT, shape))
        cut.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    return cut


def given_name(tensor: str) -> str:
    """Return the name of the input that replaces a tensor at which a graph is cut.

    Args:
        tensor: Name of the tensor.

    Returns:
        Name of the input.
    """
    return f"{tensor}.given"

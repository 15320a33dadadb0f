"""Kernels that onnxruntime runs for the layers of a graph, read from the graph after its optimizations."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from haq.evaluation.engines.onnxruntime import open_session

INTEGER_OPERATORS = (
    "QLinearConv",
    "QGemm",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "MatMulIntegerToFloat16",
)
"""Operators that multiply integer codes."""


@dataclass(frozen=True, slots=True, eq=False)
class Optimized:
    """Graph as onnxruntime runs it.

    Attributes:
        model: The optimized graph, for the processor of this machine.
        kernels: Node that multiplies integer codes with the weights of a layer, by name of the layer; layers without
            such a node are computed in floats.
        requantized: Layers whose float weights onnxruntime quantizes by itself.
    """

    model: onnx.ModelProto
    kernels: dict[str, onnx.NodeProto]
    requantized: frozenset[str]


def optimize(graph: bytes, layers: Sequence[str], *, threads: int = 1) -> Optimized:
    """Optimize a graph as onnxruntime does when it opens it.

    Args:
        graph: Serialized ONNX model, with the names of `haq.exporters.onnx.names`.
        layers: Names of the layers.
        threads: Threads of onnxruntime.

    Returns:
        The optimized graph.

    Raises:
        NotExportableError: onnxruntime does not accept the graph.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        open_session(graph, threads=threads, optimized=str(path))
        model = onnx.load(path)
    nodes = {_layer_of(node): node for node in model.graph.node if node.op_type in INTEGER_OPERATORS}
    added = {tensor.name.rpartition("/")[0] for tensor in model.graph.initializer if "_weight_q" in tensor.name}
    found = {layer: nodes[layer] for layer in layers if layer in nodes and layer not in added}
    return Optimized(model, found, frozenset(added.intersection(layers)))


def _layer_of(node: onnx.NodeProto) -> str:
    """Return the layer of a node, which optimizations rename only at the end."""
    return node.name.rpartition("/")[0]

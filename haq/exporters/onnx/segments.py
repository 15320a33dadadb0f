"""Exported graph cut at the codes of its quantized inputs, so that every layer is computed from codes that are fed."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from haq.evaluation.engines.onnxruntime import open_session
from haq.evaluation.engines.onnxruntime.sessions import by_name, run_named
from haq.execution.structures import Structure
from haq.exporters.cut_graph import given_name
from haq.exporters.onnx.names import activation_names, factor_names

StoredCodes = NDArray[np.uint8]
OUTPUTS = ""
"""Name that stands for the outputs of the network among the activations that a segment ends in."""


@dataclass(frozen=True, slots=True)
class SegmentValues:
    """Results of all segments.

    Attributes:
        codes: Codes of quantized activations at the end of the preceding segments, by `LAYER.input` or
            `LAYER.second_input`.
        outputs: Outputs of the network.
    """

    codes: Mapping[str, StoredCodes]
    outputs: Sequence[NDArray[np.float32]]


class CodeSegments:
    """Segments of an exported graph in one onnxruntime session.

    Args:
        graph: Serialized ONNX model, with the names of `haq.exporters.onnx.names`.
        layers: Names of the layers.
        threads: Threads of onnxruntime.
    """

    def __init__(self, graph: bytes, layers: Sequence[str], *, threads: int) -> None:
        model = onnx.load_model_from_string(graph)
        self._inputs = [value.name for value in model.graph.input]
        self._output_count = len(model.graph.output)
        self.ends = segment_ends(model.graph, layers)
        self._ends = _cut(model.graph, layers)
        self._session = open_session(model.SerializeToString(), threads=threads)

    def run(self, inputs: Structure, given: Mapping[str, StoredCodes]) -> SegmentValues:
        """Run all segments.

        Args:
            inputs: Inputs of the network, [n, ...]; the part before the first cut is computed from them.
            given: Codes of every quantized activation that layers read, by its name.

        Returns:
            Codes and outputs at the ends of the segments.
        """
        named = {name: tensor.numpy(force=True) for name, tensor in by_name(self._inputs, inputs).items()}
        fed = {given_name(activation): given[activation] for activation in self._ends}
        answered = run_named(self._session, named | fed)
        codes = dict(zip(dict.fromkeys(self._ends.values()), answered[self._output_count :], strict=True))
        found = {activation: codes[name] for activation, name in self._ends.items()}
        return SegmentValues(found, answered[: self._output_count])


def _cut(graph: onnx.GraphProto, layers: Sequence[str]) -> dict[str, str]:
    """Cut a graph before activations are dequantized, and return the tensors of codes by name of the activation."""
    readers = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    ends: dict[str, str] = {}
    for activation in (name for name in activation_names(layers) if name in readers):
        node = readers[activation]
        ends[activation] = node.input[0]
        graph.input.append(helper.make_tensor_value_info(given_name(activation), TensorProto.UINT8, None))
        node.input[0] = given_name(activation)
    codes = dict.fromkeys(ends.values())  # layers may share them
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.UINT8, None) for name in codes)
    return ends


def segment_ends(graph: onnx.GraphProto, layers: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Find the quantized activations that depend on the output of each layer, without another one in between.

    Args:
        graph: Graph with the names of `haq.exporters.onnx.names`.
        layers: Names of the layers.

    Returns:
        Names of the activations, by layer, in the order of the graph; `OUTPUTS` if an output of the network depends on
        it.
    """
    activations, products = activation_names(layers), factor_names(layers)
    sources: defaultdict[str, set[str]] = defaultdict(set)  # by tensor: the layers that it depends on
    ends: dict[str, list[str]] = {layer: [] for layer in layers}
    for node in graph.node:
        found = set().union(*(sources[name] for name in node.input))
        if node.op_type == "DequantizeLinear" and node.output[0] in activations:
            for layer in _in_order(found, layers):
                ends[layer].append(node.output[0])
            found = set()
        found |= {products[name] for name in node.input if name in products}
        for name in node.output:
            sources[name] = found
    for layer in set().union(*(sources[value.name] for value in graph.output)):
        ends[layer].append(OUTPUTS)
    return {layer: tuple(found) for layer, found in ends.items()}


def _in_order(found: set[str], layers: Sequence[str]) -> Iterator[str]:
    return (layer for layer in layers if layer in found)

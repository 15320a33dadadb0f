"""Comparison of integer kernels of an optimized graph with the exact reference, each from the codes that it read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from haq.evaluation.chunks import chunk_size
from haq.evaluation.engines.onnxruntime.sessions import by_name, run_named
from haq.execution.onnx_sessions import session_options
from haq.execution.structures import Structure, item_count, take
from haq.exporters.onnx.kernels import Optimized
from haq.exporters.onnx.reference import Array, kernel_output

CHUNK_VALUES = 2**18
"""Number of input values that are run at once: the inputs and outputs of all kernels are in memory together."""


@dataclass(frozen=True, slots=True)
class Count:
    """Number of codes.

    Attributes:
        compared: Number of codes that were compared.
        differing: Number of these that differ.
    """

    compared: int = 0
    differing: int = 0

    def __add__(self, other: "Count") -> "Count":
        """Add two counts."""
        return Count(self.compared + other.compared, self.differing + other.differing)

    @classmethod
    def of(cls, found: Array, expected: Array) -> "Count":
        """Count the codes of an array that differ from the expected ones.

        Args:
            found: Codes.
            expected: Expected codes, in the same shape.

        Returns:
            The count.
        """
        return cls(expected.size, int((found != expected).sum()))


def compare_kernels(optimized: Optimized, inputs: Structure, *, threads: int) -> dict[str, Count]:
    """Run an optimized graph as it is, and compare the output of each integer kernel with the reference.

    Args:
        optimized: Graph with its kernels by layer.
        inputs: Inputs of the network, [n, ...].
        threads: Threads of onnxruntime.

    Returns:
        Counts by layer: codes, or float outputs of kernels without output scale.

    Raises:
        NotExportableError: onnxruntime does not run the graph.
    """
    counts = dict.fromkeys(optimized.kernels, Count())
    for tensors in observe(optimized, inputs, threads=threads):
        for layer, node in optimized.kernels.items():
            values = [tensors[name] if name else None for name in node.input]
            counts[layer] += Count.of(tensors[node.output[0]], kernel_output(node, values))
    return counts


def observe(optimized: Optimized, inputs: Structure, *, threads: int) -> Iterator[Mapping[str, Array]]:
    """Run an optimized graph without further optimizations, and yield what its kernels read and write.

    Args:
        optimized: Graph with its kernels by layer.
        inputs: Inputs of the network, [n, ...].
        threads: Threads of onnxruntime.

    Yields:
        Constants, and inputs and outputs of all kernels by name, for a part of the inputs.
    """
    model = onnx.ModelProto()
    model.CopyFrom(optimized.model)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    outputs = {value.name for value in model.graph.output}
    names = {name for node in optimized.kernels.values() for name in (*node.input, *node.output) if name}
    inner = sorted(names - set(constants) - outputs - {value.name for value in model.graph.input})
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    options = session_options(threads=threads)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    size = chunk_size(inputs, CHUNK_VALUES)
    for start in range(0, item_count(inputs), size):
        part = by_name([value.name for value in session.get_inputs()], take(inputs, slice(start, start + size)))
        given = {name: np.ascontiguousarray(tensor.numpy(force=True)) for name, tensor in part.items()}
        answered = run_named(session, given)
        yield {**constants, **given, **dict(zip([v.name for v in session.get_outputs()], answered, strict=True))}

"""Comparison of layers without integer kernel with the quantized network in float64, each from equal input codes.

A layer that onnxruntime computes in floats has no codes of its own: what is compared are the codes of the quantized
inputs that depend on it. Sums in float32 have rounding errors, so that values halfway between two codes may get either.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from haq.evaluation.chunks import chunk_size
from haq.evaluation.engines.agreement import OUTPUT_ROUNDING
from haq.execution.structures import Structure, item_count, take
from haq.exporters.deployable import Deployable
from haq.exporters.onnx.kernel_codes import CHUNK_VALUES, Count
from haq.exporters.onnx.precise import PreciseNetwork
from haq.exporters.onnx.segments import OUTPUTS, CodeSegments, SegmentValues


def compare_float_layers(
    graph: bytes, network: Deployable, layers: Sequence[str], inputs: Structure, *, threads: int
) -> dict[str, Count]:
    """Compare the codes that depend on layers without integer kernel with those of the network in float64.

    Args:
        graph: Serialized ONNX model.
        network: Network that was exported.
        layers: Names of the layers without integer kernel.
        inputs: Inputs of the network, [n, ...].
        threads: Threads of onnxruntime.

    Returns:
        Counts by layer. Where only outputs of the network depend on a layer, they are counted, as differing if they
        differ by more than rounding.

    Raises:
        NotExportableError: onnxruntime does not run the graph.
    """
    counts = dict.fromkeys(layers, Count())
    if not layers:
        return counts
    segments = CodeSegments(graph, [layer.name for layer in network.policy.layers], threads=threads)
    reference = PreciseNetwork(network)
    for part in _parts(inputs):
        expected = reference.run(part)
        found = segments.run(part, expected.codes)
        at_ends = {end: Count.of(found.codes[end], codes) for end, codes in expected.codes.items()}
        at_ends[OUTPUTS] = _count_outputs(found, expected)
        for layer in layers:
            counts[layer] = sum((at_ends[end] for end in segments.ends[layer]), counts[layer])
    return counts


def _parts(inputs: Structure) -> Iterator[Structure]:
    size = chunk_size(inputs, CHUNK_VALUES)
    return (take(inputs, slice(start, start + size)) for start in range(0, item_count(inputs), size))


def _count_outputs(found: SegmentValues, expected: SegmentValues) -> Count:
    pairs = zip(found.outputs, expected.outputs, strict=True)
    return sum((_count_floats(*pair) for pair in pairs if pair[1].dtype.kind == "f"), Count())


def _count_floats(found: NDArray[np.float32], expected: NDArray[np.float32]) -> Count:
    tolerance = OUTPUT_ROUNDING * np.abs(expected).max(initial=0.0)
    return Count(expected.size, int((~(np.abs(found - expected) <= tolerance)).sum()))

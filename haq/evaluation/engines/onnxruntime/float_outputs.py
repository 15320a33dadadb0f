"""Convolutions whose output stays in float, computed as products of integer matrices.

onnxruntime has integer kernels for convolutions with a quantized output only. Where a residual sum or the end of the
network reads the output, it converts the codes of the input to floats, changes their layout, and convolves floats. For
matrices, it has a kernel that multiplies codes and converts the sums to floats. Here such a convolution becomes one
product of matrices, over the channels of all positions of the window: the same numbers up to the rounding of floats.
"""

from collections.abc import Iterator

import numpy as np

from haq.evaluation.engines.onnxruntime.assembly import Assembly, Quantized
from haq.evaluation.engines.onnxruntime.codes import Integers
from haq.evaluation.engines.onnxruntime.lowering import Lowering
from haq.evaluation.engines.onnxruntime.marking import attribute
from haq.evaluation.engines.onnxruntime.template import Node, Template
from haq.policy import PolicyBits
from haq.quantization.corrections import Corrections
from haq.quantization.quantizers import Quantizers

MIN_CHANNELS = 32
"""Input channels from which the product is faster for windows of more than one position."""
MAX_POSITIONS = 9
"""Largest number of positions of a window: the product needs that many copies of the input's codes."""
_CHANNELS_LAST, _CHANNELS_SECOND = (0, 2, 3, 1), (0, 3, 1, 2)


class EvaluatedLowering(Lowering):
    """Builder of the graph that the engine evaluates.

    It computes what the exported graph computes, with the kernels that are the fastest: weights of layers without
    integer kernel are floats, and convolutions with float outputs are products of matrices.

    Args:
        template: Graph without the quantizers, weights and biases of its layers.
        quantizers: Quantizers of weights and activations.
        bits: (w_bits, a_bits) of every layer; None leaves weights or inputs in float.
        corrections: Corrections of the policy.
    """

    def __init__(
        self, template: Template, quantizers: Quantizers, bits: PolicyBits, *, corrections: Corrections
    ) -> None:
        super().__init__(template, quantizers, bits, corrections=corrections, fold=True)
        self._convolutions = {node.input[1]: node for node in template.nodes if node.op_type == "Conv"}
        self._codes: dict[str, Integers] = {}

    def _put_weight(self, layer: str, codes: Integers, output: str, *, is_folded: bool) -> None:
        if is_folded and output in self._convolutions and is_faster_as_product(self._convolutions[output], codes):
            self._codes[output] = codes
        super()._put_weight(layer, codes, output, is_folded=is_folded)

    def _other(self, node: Node) -> None:
        codes = self._codes.get(node.input[1]) if node.op_type == "Conv" else None
        operand = None if codes is None else self._graph.quantized(node.input[0])
        if codes is None or operand is None:
            super()._other(node)
        else:
            add_product(self._graph, node, operand, codes)


def is_faster_as_product(node: Node, codes: Integers) -> bool:
    """Return whether a convolution of codes is faster as a product of matrices.

    Args:
        node: The convolution.
        codes: Its weights, [c_out, c_in / groups, ...].

    Returns:
        Whether it has two spatial dimensions, one group, a small window, and enough input channels.
    """
    has_numbers: bool = attribute(node, "auto_pad", b"NOTSET") == b"NOTSET"
    if codes.codes.ndim != 4 or attribute(node, "group", 1) != 1 or not has_numbers:
        return False
    _, channels, height, width = codes.codes.shape
    positions = height * width
    return bool(positions == 1 or (positions <= MAX_POSITIONS and channels >= MIN_CHANNELS))


def add_product(graph: Assembly, node: Node, operand: Quantized, weight: Integers) -> None:
    """Add a convolution of codes as a product of matrices.

    Args:
        graph: Graph with the quantized input.
        node: The convolution.
        operand: Its input.
        weight: Its weights, [c_out, c_in, height, width].
    """
    name = node.output[0]
    last = graph.add("Transpose", [operand.codes], f"{name}.last", perm=_CHANNELS_LAST)
    rows = _windows(graph, node, last, operand.zero_point, size=weight.codes.shape[2:])
    x = graph.add("DequantizeLinear", [rows, operand.scale, operand.zero_point], f"{name}.rows")
    matrix = np.ascontiguousarray(weight.codes.transpose(2, 3, 1, 0).reshape(-1, len(weight.codes)))
    parts = {"codes": matrix, "scale": weight.scale, "zero_point": np.zeros(len(weight.scale), np.int8)}
    constants = [graph.constant(f"{name}.matrix.{part}", values) for part, values in parts.items()]
    w = graph.add("DequantizeLinear", constants, f"{name}.matrix", axis=1)
    product = graph.add("MatMul", [x, w], f"{name}.product")
    if len(node.input) > 2:
        product = graph.add("Add", [product, node.input[2]], f"{name}.biased")
    graph.add("Transpose", [product], name, perm=_CHANNELS_SECOND)


def _windows(graph: Assembly, node: Node, source: str, zero_point: str, *, size: tuple[int, ...]) -> str:
    """Add the channels [n, height, width, positions * c_in] of the window around each position of the output."""
    name = node.output[0]
    strides, dilations = attribute(node, "strides", [1, 1]), attribute(node, "dilations", [1, 1])
    top, left, bottom, right = attribute(node, "pads", [0, 0, 0, 0])
    if top or left or bottom or right:
        pads = graph.constant(f"{name}.pads", np.array([0, top, left, 0, 0, bottom, right, 0]))
        source = graph.add("Pad", [source, pads, zero_point], f"{name}.padded")
    if size == (1, 1) and strides == [1, 1]:
        return source
    axes, steps = graph.constant(f"{name}.axes", [1, 2]), graph.constant(f"{name}.steps", strides)
    parts = []
    for number, (first, last) in enumerate(_bounds(size, dilations)):
        starts = graph.constant(f"{name}.starts{number}", first)
        ends = graph.constant(f"{name}.ends{number}", last)
        parts.append(graph.add("Slice", [source, starts, ends, axes, steps], f"{name}.position{number}"))
    return graph.add("Concat", parts, f"{name}.windows", axis=3)


def _bounds(size: tuple[int, ...], dilations: list[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield first index, and end counted from the end, of the inputs of every position of the window."""
    for position in np.ndindex(*size):
        first = [index * step for index, step in zip(position, dilations, strict=True)]
        after = [(length - 1) * step - each for length, step, each in zip(size, dilations, first, strict=True)]
        yield first, [-each if each else np.iinfo(np.int64).max for each in after]

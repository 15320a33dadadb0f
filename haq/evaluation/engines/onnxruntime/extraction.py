"""Extraction of the template of a network from its marked graph.

Transposes of weights are moved before their marks, so that codes can be stored transposed. Biases, and the batch norms
that follow layers, are removed from the graph: a policy adds weights and biases that include them.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import helper, numpy_helper

from haq.evaluation.engines.onnxruntime.errors import NotExportableError
from haq.evaluation.engines.onnxruntime.marking import (
    INPUT,
    NORM,
    SECOND_INPUT,
    WEIGHT,
    attribute,
    epsilon_of,
    is_mark,
    layer_of,
    norm_of,
)
from haq.evaluation.engines.onnxruntime.template import Activation, Floats, Node, Norm, Product, Template
from haq.network.layers import Trace
from haq.network.tracing.weighted_calls import WeightSlice
from hardware_sim.layer import Layer

_BIAS_INPUT: Mapping[str, int | None] = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2, "MatMul": None, "Gather": None}
"""Operators that multiply with weights, and which of their inputs is the bias; None if an addition follows."""
_KEEP_VALUES = ("Relu", "MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze")
"""Operators that commute with quantization, so that runtimes move quantizers across them."""


def make_template(marked: onnx.ModelProto, trace: Trace) -> Template:
    """Build the template of a marked graph.

    Args:
        marked: Result of `export_marked`.
        trace: Trace of the network.

    Returns:
        The template.

    Raises:
        NotExportableError: The graph multiplies with the weights of a layer in a way that is not recognized.
    """
    graph = _Graph(marked)
    marks = {layer_of(node): node for node in graph.nodes if is_mark(node, WEIGHT) or is_mark(node, SECOND_INPUT)}
    layers = zip(trace.layers, trace.sites, strict=True)
    pads = graph.fold_pads()
    products = [
        replace(graph.extract_product(marks[n], layer, len(site.weights.shape)), pads=pads.get(n, ()))
        if isinstance(site.weights, WeightSlice)
        else graph.product_of_activations(marks[n], layer)
        for n, (layer, site) in enumerate(layers)
    ]
    activations = graph.extract_activations()
    next_layers = {product.output: graph.next_layers(product.output) for product in products}
    return Template(marked, tuple(graph.nodes), graph.constants, tuple(products), activations, next_layers)


class _Graph:
    """Copy of a marked graph from which biases, batch norms and activation functions are removed."""

    def __init__(self, marked: onnx.ModelProto) -> None:
        copy = onnx.GraphProto()
        copy.CopyFrom(marked.graph)
        self.nodes = list(copy.node)
        self.constants = {tensor.name: tensor for tensor in copy.initializer}
        self._outputs = {value.name for value in copy.output}
        self._readers: defaultdict[str, list[Node]] = defaultdict(list)
        for node in self.nodes:
            for name in set(node.input):
                self._readers[name].append(node)

    def extract_product(self, mark: Node, layer: Layer, rank: int) -> Product:
        """Find the operator that multiplies with marked weights, and remove its bias and batch norm."""
        is_transposed = self._transpose_before_mark(mark)
        node = self._only_reader(mark.output[0], *_BIAS_INPUT)
        if node is None:
            raise NotExportableError(
                f"the exported network does not multiply with the weights of {layer.name} as they are"
            )
        operator, place = node.op_type, _BIAS_INPUT[node.op_type]
        if place is None:
            node, place = self._addition(node, layer.c_out)
        bias = self._extract_bias(node, place, f"{layer.name}.bias", layer.c_out)
        norm = self._extract_norm(node)
        return Product(layer.name, operator, bias, norm, is_transposed, rank, node.output[0])

    def product_of_activations(self, mark: Node, layer: Layer) -> Product:
        """Find the operator that reads a marked second operand."""
        readers = self._readers[mark.output[0]]
        if len(readers) != 1:
            raise NotExportableError(f"{len(readers)} operators read the second operand of {layer.name}, not one")
        (node,) = readers
        return Product(
            name=layer.name,
            operator=node.op_type,
            bias=np.zeros(0),
            norm=None,
            is_transposed=False,
            rank=0,
            output=node.output[0],
            has_weights=False,
        )

    def fold_pads(self) -> dict[int, tuple[int, ...]]:
        """Let convolutions pad their inputs where the network pads them with zeros before.

        Zero has a code of its own in every quantizer, so that the values are the same; runtimes have integer kernels
        for convolutions that read quantized tensors directly.

        Returns:
            Pads by layer: of all spatial axes before, then after.
        """
        folded: dict[int, tuple[int, ...]] = {}
        for node in [node for node in self.nodes if node.op_type == "Pad"]:
            pads, marks = self._spatial_zeros(node), self._readers[node.output[0]]
            if pads is None or node.output[0] in self._outputs or not all(is_mark(mark, INPUT) for mark in marks):
                continue
            readers = [reader for mark in marks for reader in self._readers[mark.output[0]]]
            if not all(_pads_by_numbers(reader, len(pads)) for reader in readers):
                continue
            for reader in readers:
                _add_pads(reader, pads)
            self._bypass(node, marks)
            folded |= {layer_of(mark): pads for mark in marks}
        return folded

    def _bypass(self, node: Node, marks: Sequence[Node]) -> None:
        """Remove a node, and let the marks that read its output read its input."""
        for mark in marks:
            mark.input[0] = node.input[0]
        del self.nodes[self._place(node)]
        others = [reader for reader in self._readers[node.input[0]] if reader is not node]
        self._readers[node.input[0]] = [*others, *marks]

    def _spatial_zeros(self, node: Node) -> tuple[int, ...] | None:
        """Return the zeros that a Pad adds, of all spatial axes before and then after; None if it adds others."""
        names = [*node.input, "", "", ""]
        if attribute(node, "mode", b"constant") != b"constant" or names[1] not in self.constants:
            return None
        if any(name not in self.constants for name in names[2:4] if name):
            return None
        pads = self._value(names[1]).astype(int)
        axes = range(len(pads) // 2) if not names[3] else self._value(names[3]).astype(int).tolist()
        is_zero = not names[2] or self._value(names[2]).item() == 0
        by_axis = dict(zip(axes, zip(pads[: len(axes)], pads[len(axes) :], strict=True), strict=True))
        padded = {axis for axis, both in by_axis.items() if any(both)}
        if not is_zero or pads.min() < 0 or not all(axis >= 2 for axis in padded):
            return None
        last = max(by_axis)
        both = [by_axis.get(axis, (0, 0)) for axis in range(2, last + 1)]
        return (*(int(before) for before, _ in both), *(int(after) for _, after in both))

    def extract_activations(self) -> dict[str, Activation]:
        """Remove activation functions that only inputs of layers read."""
        found: dict[str, Activation] = {}
        for node in [node for node in self.nodes if node.op_type in ("Relu", "Clip")]:
            bounds, marks = self._bounds(node), self._readers[node.output[0]]
            if bounds is None or node.output[0] in self._outputs or not all(is_mark(mark, INPUT) for mark in marks):
                continue
            for mark in marks:
                found[mark.output[0]] = Activation(node.op_type, tuple(node.input[1:]), *bounds)
            self._bypass(node, marks)
        return found

    def next_layers(self, name: str) -> tuple[int, ...]:
        """Return the layers that alone read a tensor.

        Before a single layer, there may be operators in between that commute with quantization.
        """
        node = self._only_reader(name, *_KEEP_VALUES)
        while node is not None:
            name = node.output[0]
            node = self._only_reader(name, *_KEEP_VALUES)
        readers = self._readers[name]
        is_quantized = name not in self._outputs and all(is_mark(reader, INPUT) for reader in readers)
        return tuple(layer_of(reader) for reader in readers) if is_quantized else ()

    def _bounds(self, node: Node) -> tuple[float, float] | None:
        """Return the range of an activation's output; None if it is computed."""
        if node.op_type == "Relu":
            return 0.0, math.inf
        low, high = [*node.input[1:], "", ""][:2]
        if not all(name in self.constants for name in (low, high) if name):
            return None
        return float(self._value(low)) if low else -math.inf, float(self._value(high)) if high else math.inf

    def _transpose_before_mark(self, mark: Node) -> bool:
        """Exchange a mark with the transpose after it; return whether there was one."""
        transpose = self._only_reader(mark.output[0], "Transpose")
        if transpose is None or attribute(transpose, "perm", None) != [1, 0]:
            return False
        weight, between, transposed = mark.input[0], mark.output[0], transpose.output[0]
        transpose.input[0], transpose.output[0] = weight, between
        mark.input[0], mark.output[0] = between, transposed
        first, second = self._place(mark), self._place(transpose)
        self.nodes[first], self.nodes[second] = transpose, mark
        return True

    def _addition(self, node: Node, c_out: int) -> tuple[Node, int]:
        """Return the addition of a bias to a product, inserted if missing, and which of its inputs the bias is."""
        addition = self._only_reader(node.output[0], "Add")
        for place, name in enumerate(addition.input if addition else ()):
            if addition and name in self.constants and tuple(self.constants[name].dims) == (c_out,):
                return addition, place
        output, node.output[0] = node.output[0], f"{node.output[0]}.unbiased"
        addition = helper.make_node("Add", [node.output[0]], [output], name=f"{node.name}.bias")
        self.nodes.insert(self._place(node) + 1, addition)
        return addition, 1

    def _extract_bias(self, node: Node, place: int, name: str, c_out: int) -> Floats:
        """Replace the bias that a node reads by a name; return the bias."""
        if place == len(node.input):
            node.input.append(name)
            return np.zeros(c_out)
        if node.input[place] not in self.constants:
            raise NotExportableError(f"{name} is computed while the network runs")
        bias = self._value(node.input[place])
        node.input[place] = name
        return bias

    def _extract_norm(self, node: Node) -> Norm | None:
        """Remove and return the batch norm that follows a node, if its channels are those that have weight scales."""
        norm = self._only_reader(node.output[0], NORM)
        shares_scales = node.op_type == "ConvTranspose" and attribute(node, "group", 1) > 1
        if norm is None or node.op_type == "Add" or shares_scales:
            return None
        if not all(name in self.constants for name in norm.input[1:]):
            return None
        node.output[0] = norm.output[0]
        del self.nodes[self._place(norm)]
        gamma, beta, mean, variance = (self._value(name) for name in norm.input[1:])
        return Norm(norm_of(norm), gamma, beta, mean, variance, epsilon_of(norm))

    def _only_reader(self, name: str, *operations: str) -> Node | None:
        """Return the node that alone reads a tensor, if it is one of these operations."""
        readers = self._readers[name]
        alone = len(readers) == 1 and name not in self._outputs
        return readers[0] if alone and readers[0].op_type in operations else None

    def _place(self, node: Node) -> int:
        return next(place for place, other in enumerate(self.nodes) if other is node)

    def _value(self, name: str) -> Floats:
        return numpy_helper.to_array(self.constants[name]).astype(np.float64)


def _pads_by_numbers(node: Node, count: int) -> bool:
    """Return whether a node is a convolution with a number of spatial pads that stand in the node, or with none."""
    has_numbers = attribute(node, "auto_pad", b"NOTSET") == b"NOTSET"
    return node.op_type == "Conv" and has_numbers and len(attribute(node, "pads", [0] * count)) == count


def _add_pads(node: Node, pads: Sequence[int]) -> None:
    """Add pads to those of a convolution."""
    before = attribute(node, "pads", [0] * len(pads))
    kept = [found for found in node.attribute if found.name != "pads"]
    del node.attribute[:]
    summed = [own + more for own, more in zip(before, pads, strict=True)]
    node.attribute.extend([*kept, helper.make_attribute("pads", summed)])

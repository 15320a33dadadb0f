"""The marked graph made ready, once, for every policy.

Transposes of weights come before their marks, so that codes can be stored turned. Biases, and the batch norms that
follow layers, are taken out of the graph: a policy brings weights and biases that hold them again.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor

from haq.evaluation.engines.onnxruntime.errors import NotExportableError
from haq.evaluation.engines.onnxruntime.marking import (
    INPUT,
    NORM,
    WEIGHT,
    attribute,
    epsilon_of,
    is_mark,
    layer_of,
    norm_of,
)
from haq.network.layer_calls import NormCall
from haq.network.layers import Trace
from haq.quantization.corrections import Moments
from hardware_sim.layer import Layer

Floats = NDArray[np.float64]
Node = onnx.NodeProto

_BIAS_INPUT: Mapping[str, int | None] = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2, "MatMul": None, "Gather": None}
"""Products with weights, and which of their inputs is the bias; None where an addition follows."""
_KEEP_VALUES = ("Relu", "MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze")
"""Operators that runtimes exchange with quantizing."""


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """What becomes of a layer's output in every channel: output * factor + offset, [c_out] each."""

    factor: Floats
    offset: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """A batch norm that follows a layer, [c_out] each."""

    name: NormCall
    gamma: Floats
    beta: Floats
    mean: Floats
    variance: Floats
    epsilon: float

    def affine(self, moments: Moments | None = None) -> Affine:
        """What it does with its running statistics, or with others."""
        mean, variance = (self.mean, self.variance) if moments is None else (x.double().numpy() for x in moments)
        factor = self.gamma / np.sqrt(variance + self.epsilon)
        return Affine(factor, self.beta - mean * factor)


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """A layer's multiplication with its weights, as the graph has it."""

    name: str
    """The layer's."""
    operator: str
    """Conv, ConvTranspose, Gemm, MatMul or Gather."""
    bias: Floats
    """[c_out]"""
    norm: Norm | None
    """The batch norm that followed; it is no longer in the graph."""
    is_turned: bool
    """Whether the graph wants the weights transposed."""
    rank: int
    """Dimensions of the weights."""
    output: str
    """The tensor with the product, its bias and its batch norm."""

    @property
    def bias_tensor(self) -> str:
        """What the graph adds to the product and does not hold."""
        return f"{self.name}.bias"

    def affine(self, correction: Tensor | None = None, moments: Moments | None = None) -> Affine:
        """Bias and batch norm in one, with a correction of the bias and other statistics."""
        bias = self.bias if correction is None else self.bias + correction.double().numpy()
        if self.norm is None:
            return Affine(np.ones_like(bias), bias)
        norm = self.norm.affine(moments)
        return Affine(norm.factor, bias * norm.factor + norm.offset)


@dataclass(frozen=True, slots=True, eq=False)
class Activation:
    """A ReLU, ReLU6 or other clip that nothing but inputs of layers read; it is no longer in the graph.

    Rounding is monotone, so that clipping codes does the same exactly, and what comes before can become an integer
    kernel.
    """

    operator: str
    inputs: tuple[str, ...]
    """Those after the first."""
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A graph that lacks each layer's quantizers, weights and bias."""

    marked: onnx.ModelProto
    """What it was made from: inputs, outputs and versions are the same."""
    nodes: tuple[Node, ...]
    constants: Mapping[str, onnx.TensorProto]
    products: tuple[Product, ...]
    """One a layer, in the order of the trace."""
    activations: Mapping[str, Activation]
    """By the output of the marks that they stood before."""
    feeds: Mapping[str, int | None]
    """By the output of a layer: the layer that alone reads it, perhaps rectified, pooled or reshaped."""


def make_template(marked: onnx.ModelProto, trace: Trace) -> Template:
    """Take apart what `export_marked` gave.

    Raises NotExportableError where it is not seen how the graph multiplies with a layer's weights.
    """
    graph = _Graph(marked)
    marks = {layer_of(node): node for node in graph.nodes if is_mark(node, WEIGHT)}
    layers = zip(trace.layers, trace.sites, strict=True)
    products = [graph.take_apart(marks[n], layer, len(site.weights.shape)) for n, (layer, site) in enumerate(layers)]
    activations = graph.take_activations()
    feeds = {product.output: graph.layer_behind(product.output) for product in products}
    return Template(marked, tuple(graph.nodes), graph.constants, tuple(products), activations, feeds)


class _Graph:
    """A copy of a graph while it is taken apart."""

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

    def take_apart(self, mark: Node, layer: Layer, rank: int) -> Product:
        """Find what multiplies with marked weights, and take out what follows channel by channel."""
        is_turned = self._turn(mark)
        node = self._only_reader(mark.output[0], *_BIAS_INPUT)
        if node is None:
            raise NotExportableError(
                f"the exported network does not multiply with the weights of {layer.name} as they are"
            )
        operator, place = node.op_type, _BIAS_INPUT[node.op_type]
        if place is None:
            node, place = self._addition(node, layer.c_out)
        bias = self._take_bias(node, place, f"{layer.name}.bias", layer.c_out)
        norm = self._take_norm(node)
        return Product(layer.name, operator, bias, norm, is_turned, rank, node.output[0])

    def take_activations(self) -> dict[str, Activation]:
        """Take out what does nothing but bound the inputs of layers."""
        found: dict[str, Activation] = {}
        for node in [node for node in self.nodes if node.op_type in ("Relu", "Clip")]:
            bounds, marks = self._bounds(node), self._readers[node.output[0]]
            if bounds is None or node.output[0] in self._outputs or not all(is_mark(mark, INPUT) for mark in marks):
                continue
            for mark in marks:
                mark.input[0] = node.input[0]
                found[mark.output[0]] = Activation(node.op_type, tuple(node.input[1:]), *bounds)
            del self.nodes[self._place(node)]
            others = [reader for reader in self._readers[node.input[0]] if reader is not node]
            self._readers[node.input[0]] = [*others, *marks]
        return found

    def layer_behind(self, name: str) -> int | None:
        """The layer that alone reads a tensor, with nothing between that mixes values."""
        node = self._only_reader(name, INPUT, *_KEEP_VALUES)
        while node is not None and not is_mark(node, INPUT):
            node = self._only_reader(node.output[0], INPUT, *_KEEP_VALUES)
        return None if node is None else layer_of(node)

    def _bounds(self, node: Node) -> tuple[float, float] | None:
        """Between what values an activation keeps its input; None where that is computed."""
        if node.op_type == "Relu":
            return 0.0, math.inf
        low, high = [*node.input[1:], "", ""][:2]
        if not all(name in self.constants for name in (low, high) if name):
            return None
        return float(self._value(low)) if low else -math.inf, float(self._value(high)) if high else math.inf

    def _turn(self, mark: Node) -> bool:
        """Let weights be transposed before they are marked, not after."""
        transpose = self._only_reader(mark.output[0], "Transpose")
        if transpose is None or attribute(transpose, "perm", None) != [1, 0]:
            return False
        weight, between, turned = mark.input[0], mark.output[0], transpose.output[0]
        transpose.input[0], transpose.output[0] = weight, between
        mark.input[0], mark.output[0] = between, turned
        first, second = self._place(mark), self._place(transpose)
        self.nodes[first], self.nodes[second] = transpose, mark
        return True

    def _addition(self, node: Node, c_out: int) -> tuple[Node, int]:
        """The addition of a bias to a product, and which of its inputs the bias is; made where there is none."""
        addition = self._only_reader(node.output[0], "Add")
        for place, name in enumerate(addition.input if addition else ()):
            if addition and name in self.constants and tuple(self.constants[name].dims) == (c_out,):
                return addition, place
        output, node.output[0] = node.output[0], f"{node.output[0]}.unbiased"
        addition = helper.make_node("Add", [node.output[0]], [output], name=f"{node.name}.bias")
        self.nodes.insert(self._place(node) + 1, addition)
        return addition, 1

    def _take_bias(self, node: Node, place: int, name: str, c_out: int) -> Floats:
        """Put a name where a node reads a bias; returns the bias that stood there."""
        if place == len(node.input):
            node.input.append(name)
            return np.zeros(c_out)
        if node.input[place] not in self.constants:
            raise NotExportableError(f"{name} is computed while the network runs")
        bias = self._value(node.input[place])
        node.input[place] = name
        return bias

    def _take_norm(self, node: Node) -> Norm | None:
        """Take the batch norm out that follows a node, where its channels are those that have weight scales."""
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
        """The node that alone reads a tensor, if it is one of these."""
        readers = self._readers[name]
        alone = len(readers) == 1 and name not in self._outputs
        return readers[0] if alone and readers[0].op_type in operations else None

    def _place(self, node: Node) -> int:
        return next(place for place, other in enumerate(self.nodes) if other is node)

    def _value(self, name: str) -> Floats:
        return numpy_helper.to_array(self.constants[name]).astype(np.float64)

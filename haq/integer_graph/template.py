"""The marked graph made ready, once, for every policy.

Transposes of weights come before their marks, so that codes can be stored turned. Biases, and the batch norms that
follow layers, are taken out of the graph: a policy brings weights and biases that hold them again.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from haq.corrections import Moments
from haq.integer_graph.errors import NotExportableError
from haq.integer_graph.marking import STATISTICS, WEIGHT, attribute, is_mark, layer_of, norm_of
from haq.layer_calls import NormCall
from haq.layers import Trace

Floats = NDArray[np.float64]
Node = onnx.NodeProto

_ADDITION_OF = {"MatMul": "Add", "Gather": "Add", "Conv": None, "ConvTranspose": None, "Gemm": None}
"""Products with weights, and what adds their bias; None where it is their third input."""


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
    bias: Floats
    """[c_out]"""
    norm: Norm | None
    """The batch norm that followed; it is no longer in the graph."""
    is_turned: bool
    """Whether the graph wants the weights transposed."""

    @property
    def bias_tensor(self) -> str:
        """What the graph adds to the product and does not hold."""
        return f"{self.name}.bias"

    def affine(self, bias: Floats | None = None, moments: Moments | None = None) -> Affine:
        """Bias and batch norm at once, with a correction of the bias and other statistics."""
        shift = self.bias if bias is None else self.bias + bias
        norm = Affine(np.ones_like(shift), np.zeros_like(shift)) if self.norm is None else self.norm.affine(moments)
        return Affine(norm.factor, shift * norm.factor + norm.offset)


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A graph that lacks each layer's quantizers, weights and bias."""

    marked: onnx.ModelProto
    """What it was made from: inputs, outputs and versions are the same."""
    nodes: tuple[Node, ...]
    constants: Mapping[str, onnx.TensorProto]
    products: tuple[Product, ...]
    """One a layer, in the order of the trace."""


def make_template(marked: onnx.ModelProto, trace: Trace) -> Template:
    """Take apart what `export_marked` gave.

    Raises NotExportableError where it is not seen how the graph multiplies with a layer's weights.
    """
    graph = _Graph(marked)
    marks = {layer_of(node): node for node in graph.nodes if is_mark(node, WEIGHT)}
    products = [graph.take_apart(marks[number], layer.name, layer.c_out) for number, layer in enumerate(trace.layers)]
    return Template(marked, tuple(graph.nodes), graph.constants, tuple(products))


class _Graph:
    """A copy of a graph while it is taken apart."""

    def __init__(self, marked: onnx.ModelProto) -> None:
        copy = onnx.GraphProto()
        copy.CopyFrom(marked.graph)
        self.nodes = list(copy.node)
        self.constants = {tensor.name: tensor for tensor in copy.initializer}
        self._outputs = {value.name for value in copy.output}
        self._writers = {name: node for node in self.nodes for name in node.output}
        self._readers: defaultdict[str, list[Node]] = defaultdict(list)
        for node in self.nodes:
            for name in set(node.input):
                self._readers[name].append(node)

    def take_apart(self, mark: Node, name: str, c_out: int) -> Product:
        """Find what multiplies with marked weights, and take out what follows channel by channel."""
        is_turned = self._turn(mark)
        node = self._only_reader(mark.output[0], *_WEIGHT_INPUTS)
        if node is None or node.input[_WEIGHT_INPUTS[node.op_type]] != mark.output[0]:
            raise NotExportableError(f"the exported network does not multiply with the weights of {name} as they are")
        if node.op_type in _ADDING:
            node, place = self._addition(node, c_out)
        else:
            place = 2
        bias = self._take_bias(node, place, Product.bias_name(name), c_out)
        return Product(name, bias, self._take_norm(node), is_turned)

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
        """The addition of a constant to a product, and which of its inputs that is; it is made where there is none."""
        addition = self._only_reader(node.output[0], "Add")
        for place, name in enumerate(addition.input if addition else ()):
            if name in self.constants and tuple(self.constants[name].dims) == (c_out,):
                return addition, place
        before = f"{node.output[0]}.unbiased"
        addition = helper.make_node("Add", [before, ""], [node.output[0]], name=f"{node.name}.bias")
        node.output[0] = before
        self.nodes.insert(self._place(node) + 1, addition)
        return addition, 1

    def _take_bias(self, node: Node, place: int, name: str, c_out: int) -> Floats:
        """Put a name where a node reads a bias; returns the bias that stood there."""
        if place == len(node.input):
            node.input.append("")
        before, node.input[place] = node.input[place], name
        if before and before not in self.constants:
            raise NotExportableError(f"{name} is computed while the network runs")
        return self._value(before) if before else np.zeros(c_out)

    def _take_norm(self, node: Node) -> Norm | None:
        """Take the batch norm out that follows a node."""
        norm = self._only_reader(node.output[0], "BatchNormalization")
        marks = [self._writers.get(name) for name in norm.input[3:5]] if norm else []
        if norm is None or not all(mark and is_mark(mark, *STATISTICS) for mark in marks):
            return None
        ...

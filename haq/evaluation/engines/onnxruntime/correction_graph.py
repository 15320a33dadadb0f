"""ONNX graph that computes the corrections of a policy in one pass of onnxruntime.

It computes what `haq.quantization.corrections.Corrector` computes in torch, up to float rounding. Outputs stay in
float. Convolutions are products of integer matrices where that is faster; the weights of other layers are the floats
that the codes stand for. Tensors that are corrected are first centred at the means of the float network, in layers by
their biases at no cost.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, parser
from torch import Tensor

from haq.evaluation.engines.onnxruntime.assembly import Assembly
from haq.evaluation.engines.onnxruntime.codes import Integers, integer_weight
from haq.evaluation.engines.onnxruntime.correction_functions import FUNCTIONS
from haq.evaluation.engines.onnxruntime.float_outputs import add_product, is_faster_as_product
from haq.evaluation.engines.onnxruntime.marking import (
    INPUT,
    MARKS,
    NORM,
    SECOND_INPUT,
    WEIGHT,
    epsilon_of,
    layer_of,
    norm_of,
)
from haq.evaluation.engines.onnxruntime.template import Node, Template
from haq.network.layer_calls import NormCall
from haq.policy import PolicyBits
from haq.quantization.corrections import Corrections, FloatStatistics, variance_epsilon
from haq.quantization.moments import Moments
from haq.quantization.quantizers import Quantizers


@dataclass(frozen=True, slots=True)
class Scaled:
    """Layer whose output is scaled.

    Attributes:
        layer: Its position.
    """

    layer: int


@dataclass(frozen=True, slots=True, eq=False)
class CorrectionGraph:
    """Graph whose outputs are the corrections of a policy.

    Attributes:
        model: The ONNX model.
        keys: What the outputs belong to, in their order: a layer has one output, its bias; a scaled layer has two,
            scale and bias; a batch norm has two, mean and variance.
    """

    model: onnx.ModelProto
    keys: tuple[int | Scaled | NormCall, ...]

    def corrections(self, outputs: Sequence[NDArray[np.float32]]) -> Corrections:
        """Convert the outputs of the graph to corrections.

        Args:
            outputs: Arrays in the order of the graph's outputs.

        Returns:
            The corrections.
        """
        values = iter(outputs)
        biases: dict[int, Tensor] = {}
        scales: dict[int, Tensor] = {}
        statistics: dict[NormCall, Moments] = {}
        for key in self.keys:
            first = torch.from_numpy(next(values))
            if isinstance(key, int):
                biases[key] = first
            elif isinstance(key, Scaled):
                scales[key.layer], biases[key.layer] = first, torch.from_numpy(next(values))
            else:
                statistics[key] = first, torch.from_numpy(next(values))
        return Corrections(statistics, biases, scales)


def build_correction_graph(
    template: Template, quantizers: Quantizers, bits: PolicyBits, *, floats: FloatStatistics
) -> CorrectionGraph:
    """Build the graph that computes the corrections of a policy.

    Args:
        template: Graph without the quantizers, weights and biases of its layers.
        quantizers: Quantizers of weights and activations.
        bits: (w_bits, a_bits) of every layer; None for float.
        floats: Statistics of the float network on the images that the graph will be run on.

    Returns:
        The graph.
    """
    return _GraphBuilder(template, quantizers, bits, floats=floats).graph()


class _GraphBuilder:
    """Builder of the correction graph of one policy."""

    def __init__(
        self, template: Template, quantizers: Quantizers, bits: PolicyBits, *, floats: FloatStatistics
    ) -> None:
        self._template, self._quantizers, self._bits, self._floats = template, quantizers, bits, floats
        self._graph = Assembly(template)
        self._found: dict[str, int | Scaled | NormCall] = {}

    def graph(self) -> CorrectionGraph:
        """Build all nodes, with corrections after the layers."""
        handlers = {INPUT: self._input, SECOND_INPUT: self._second_input, WEIGHT: self._weight, NORM: self._norm}
        layers = {product.output: layer for layer, product in enumerate(self._template.products) if product.has_weights}
        for node in self._template.nodes:
            if node.domain == MARKS:
                handlers[node.op_type](node)
            elif node.output[0] in layers:
                self._product(node, layers[node.output[0]])
            else:
                self._graph.append(node)
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self._found]
        functions = [parser.parse_function(text) for text in FUNCTIONS]
        return CorrectionGraph(self._graph.model(outputs, functions), tuple(dict.fromkeys(self._found.values())))

    def _input(self, mark: Node) -> None:
        layer = layer_of(mark)
        width = self._bits[1][layer]
        self._graph.add_input(mark, None if width is None else self._quantizers.activation(layer, width))

    def _second_input(self, mark: Node) -> None:
        layer = layer_of(mark)
        width = self._bits[0][layer]
        self._graph.add_input(mark, None if width is None else self._quantizers.second_activation(layer, width))

    def _weight(self, mark: Node) -> None:
        layer = layer_of(mark)
        width = self._bits[0][layer]
        if width is None:
            self._graph.add("Identity", [mark.input[0]], mark.output[0])
            return
        values = self._quantizers.weight(layer, width).numpy(force=True)
        self._graph.constant(mark.output[0], values.T if self._template.products[layer].is_transposed else values)

    def _product(self, node: Node, layer: int) -> None:
        """Add a layer, followed by its batch norm or by the correction of its bias."""
        product = self._template.products[layer]
        floats = self._floats.outputs.get(layer) if product.norm is None else self._floats.moments[product.norm.name]
        if floats is None:  # corrected by a batch norm that is a node of its own, or not at all
            self._graph.constant(product.bias_tensor, np.float32(product.bias))
            self._graph.append(node)
            return
        mean = floats[0]
        self._graph.constant(product.bias_tensor, np.float32(product.bias - mean.double().numpy(force=True)))
        centred = Node()
        centred.CopyFrom(node)
        centred.output[0] = f"{product.name}.centred"
        operand, codes = self._graph.quantized(node.input[0]), self._codes(layer)
        if operand is not None and codes is not None and is_faster_as_product(node, codes):
            add_product(self._graph, centred, operand, codes)
        else:
            self._graph.append(centred)
        if product.norm is None:
            self._correct(centred.output[0], layer, floats)
            return
        norm = product.norm
        parameters = {"gamma": norm.gamma, "beta": norm.beta, "mean": norm.mean, "variance": norm.variance}
        inputs = self._constants(product.output, **{name: np.float32(values) for name, values in parameters.items()})
        self._renormalize([centred.output[0], *inputs], product.output, norm=norm.name, epsilon=norm.epsilon)

    def _codes(self, layer: int) -> Integers | None:
        """Return the integer weights of a convolution; None of other layers, and where weights are no integers."""
        width = self._bits[0][layer]
        if width is None or self._template.products[layer].operator != "Conv" or not self._quantizers.in_integers:
            return None
        return integer_weight(self._quantizers.codes(layer, width))

    def _correct(self, centred: str, layer: int, floats: Moments) -> None:
        product, (mean, variance) = self._template.products[layer], (each.numpy(force=True) for each in floats)
        if product.operator in ("Conv", "ConvTranspose"):
            rows, axes, along = [0, 0, -1], [0, 2], [-1, *[1] * (product.rank - 2)]
        else:
            rows, axes, along = [-1, len(mean)], [0], [-1]
        constants = self._constants(product.output, rows=rows, axes=axes, float_mean=mean)
        bias = f"{product.output}.moved_bias"
        if not self._quantizers.is_scalable(layer, self._bits[0][layer]):
            constants += self._constants(product.output, along=along)
            self._graph.add("Correct", [centred, *constants], product.output, bias, domain=MARKS)
            self._found[bias] = layer
            return
        more = {"float_variance": variance, "zeros": np.zeros_like(mean), "ones": np.ones_like(mean)}
        constants += self._constants(product.output, **more)
        scale, epsilon = f"{product.output}.moved_scale", variance_epsilon(floats[1])
        self._graph.add("Match", [centred, *constants], product.output, scale, bias, domain=MARKS, epsilon=epsilon)
        self._found |= dict.fromkeys((scale, bias), Scaled(layer))

    def _norm(self, mark: Node) -> None:
        """Add a batch norm that follows no layer."""
        norm, output = norm_of(mark), mark.output[0]
        mean = self._constants(output, centre=self._floats.moments[norm][0].numpy(force=True))
        centred = self._graph.add("Centre", [mark.input[0], *mean], f"{output}.centred", domain=MARKS)
        self._renormalize([centred, *mark.input[1:]], output, norm=norm, epsilon=epsilon_of(mark))

    def _renormalize(self, inputs: Sequence[str], output: str, *, norm: NormCall, epsilon: float) -> None:
        mean, variance = (x.numpy(force=True) for x in self._floats.moments[norm])
        floats = self._constants(output, float_mean=mean, float_variance=variance)
        moved = [f"{output}.moved_mean", f"{output}.moved_variance"]
        self._graph.add("Renormalize", [*inputs, *floats], output, *moved, domain=MARKS, epsilon=epsilon)
        self._found |= dict.fromkeys(moved, norm)

    def _constants(self, prefix: str, **values: Any) -> list[str]:
        return [self._graph.constant(f"{prefix}.{name}", np.asarray(each)) for name, each in values.items()]

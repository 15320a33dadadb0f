"""From the template to the graph of a policy.

An input becomes QuantizeLinear, Clip on the codes, DequantizeLinear; weights become integer codes with one scale a
channel behind a DequantizeLinear. Runtimes turn these patterns into integer kernels; codes of any width up to 8 bits
lie in 8-bit containers. Batch norm goes into scales and biases *after* quantizing, so that the numbers are those of
fake quantization with the batch norm apart; where it turns a channel's sign, the codes turn theirs.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from haq.corrections import Corrections
from haq.evaluation import PolicyBits
from haq.integer_graph.codes import Integers, along, integer_weight, make_room
from haq.integer_graph.marking import INPUT, MARKS, NORM, WEIGHT, epsilon_of, layer_of, norm_of
from haq.integer_graph.template import Activation, Floats, Node, Product, Template
from haq.quantized_model import Quantizers
from haq.quantizers.linear import QuantizerParameters

SIGNED_OFFSET = 128
"""Signed input codes are stored as unsigned ones with a zero point higher by this: onnxruntime fuses no signed codes
that pass a Clip."""


def lower(
    template: Template,
    quantizers: Quantizers,
    bits: PolicyBits,
    *,
    corrections: Corrections | None = None,
    fold: bool = False,
) -> onnx.ModelProto:
    """The graph of a policy, (w_bits, a_bits) of every layer; None leaves weights or inputs in float.

    `fold` stores the weights of layers that have no integer kernel as the floats that their codes stand for: the same
    numbers in a larger file that onnxruntime runs faster.
    """
    return _Lowering(template, quantizers, bits, corrections=corrections or Corrections(), fold=fold).model()


class _Lowering:
    """The graph of one policy while it is put together."""

    def __init__(
        self, template: Template, quantizers: Quantizers, bits: PolicyBits, *, corrections: Corrections, fold: bool
    ) -> None:
        self._template, self._corrections, self._fold = template, corrections, fold
        self._weights = [None if w is None else quantizers.codes(layer, w) for layer, w in enumerate(bits[0])]
        self._inputs = [None if a is None else quantizers.activation(layer, a) for layer, a in enumerate(bits[1])]
        self._nodes: list[Node] = []
        self._constants = dict(template.constants)

    def model(self) -> onnx.ModelProto:
        """Everything in its place, and nothing that is not read."""
        put = {INPUT: self._input, WEIGHT: self._layer, NORM: self._norm}
        for node in self._template.nodes:
            if node.domain == MARKS:
                put[node.op_type](node)
            else:
                self._nodes.append(node)
        marked = self._template.marked
        nodes, read = _needed(self._nodes, (value.name for value in marked.graph.output))
        constants = [tensor for name, tensor in self._constants.items() if name in read]
        graph = helper.make_graph(nodes, "haq", marked.graph.input, marked.graph.output, constants)
        opsets = [opset for opset in marked.opset_import if opset.domain != MARKS]
        return helper.make_model(graph, opset_imports=opsets, ir_version=marked.ir_version)

    def _input(self, mark: Node) -> None:
        """The quantizer of a layer's input, which also does what the activation before it did."""
        layer, activation = layer_of(mark), self._template.activations.get(mark.output[0])
        name, quantizer = f"{self._template.products[layer].name}.input", self._inputs[layer]
        if quantizer is None:
            operator, others = ("Identity", []) if activation is None else (activation.operator, activation.inputs)
            self._add(operator, [mark.input[0], *others], mark.output[0])
            return
        offset = SIGNED_OFFSET if quantizer.q_min < 0 else 0
        scale = self._constant(f"{name}.scale", np.float32(quantizer.scale))
        zero_point = self._constant(f"{name}.zero_point", np.uint8(quantizer.zero_point + offset))
        codes = self._add("QuantizeLinear", [mark.input[0], scale, zero_point], f"{name}.rounded")
        low, high = (bound + offset for bound in _code_bounds(quantizer, activation))
        if (low, high) != (0, 255):
            bounds = [self._constant(f"{name}.q_{end}", np.uint8(x)) for end, x in (("min", low), ("max", high))]
            codes = self._add("Clip", [codes, *bounds], f"{name}.codes")
        self._add("DequantizeLinear", [codes, scale, zero_point], mark.output[0])

    def _layer(self, mark: Node) -> None:
        """A layer's weights and its bias, with the batch norm that followed in them."""
        layer = layer_of(mark)
        product, weight = self._template.products[layer], self._weights[layer]
        moments = self._corrections.statistics.get(product.norm.name) if product.norm else None
        affine = product.affine(self._corrections.biases.get(layer), moments)
        factor = affine.factor if product.norm else None
        if weight is None:
            self._float_weight(mark, product, factor)
            self._constant(product.bias_tensor, affine.offset.astype(np.float32))
            return
        codes, step = integer_weight(weight, factor), self._integer_step(layer)
        if step is None:
            self._constant(product.bias_tensor, affine.offset.astype(np.float32))
        else:
            codes = make_room(codes, affine.offset, step)
            self._integer_bias(product.bias_tensor, affine.offset, codes.scale * np.float32(step))
        codes = codes.turned if product.is_turned else codes
        if self._fold and step is None and product.operator != "MatMul":
            self._constant(mark.output[0], codes.values)
        else:
            self._dequantized(f"{product.name}.weight", codes, mark.output[0])

    def _integer_step(self, layer: int) -> float | None:
        """The scale of a layer's input, if runtimes can compute the layer in integers, bias included."""
        product, quantizer = self._template.products[layer], self._inputs[layer]
        reader = self._template.feeds[product.output]
        output_is_quantized = reader is not None and self._inputs[reader] is not None
        if quantizer is None or not (
            product.operator == "Gemm" or (product.operator == "Conv" and output_is_quantized)
        ):
            return None
        return quantizer.scale

    def _integer_bias(self, output: str, offset: Floats, steps: NDArray[np.float32]) -> None:
        self._dequantized(output, Integers(np.rint(offset / steps).astype(np.int32), steps, 0), output)

    def _float_weight(self, mark: Node, product: Product, factor: Floats | None) -> None:
        if factor is None:
            self._add("Identity", [mark.input[0]], mark.output[0])
            return
        axis = 1 if (product.operator == "ConvTranspose") != product.is_turned else 0
        values = along(factor.astype(np.float32), product.rank, axis)
        self._add("Mul", [mark.input[0], self._constant(f"{product.name}.weight.factor", values)], mark.output[0])

    def _norm(self, mark: Node) -> None:
        """A batch norm that follows no layer, with its own statistics or the policy's."""
        inputs, moments = list(mark.input), self._corrections.statistics.get(norm_of(mark))
        for place, value in enumerate(moments or (), start=3):
            inputs[place] = self._constant(f"{mark.output[0]}.{place}", value.float().numpy())
        self._add("BatchNormalization", inputs, mark.output[0], epsilon=epsilon_of(mark))

    def _dequantized(self, name: str, integers: Integers, output: str) -> None:
        """Constant codes, and the node that gives their values."""
        zeros = np.zeros_like(integers.scale, integers.codes.dtype)
        parts = {"codes": integers.codes, "scale": integers.scale, "zero_point": zeros}
        inputs = [self._constant(f"{name}.{part}", values) for part, values in parts.items()]
        self._add("DequantizeLinear", inputs, output, axis=integers.axis)

    def _constant(self, name: str, values: Any) -> str:
        self._constants[name] = numpy_helper.from_array(np.asarray(values), name)
        return name

    def _add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(operator, inputs, [output], name=f"{output}/{operator}", **attributes))
        return output


def _code_bounds(quantizer: QuantizerParameters, activation: Activation | None) -> tuple[int, int]:
    """The lowest and the highest code of an input, without those that the activation before it rules out."""
    low, high = quantizer.q_min, quantizer.q_max
    if activation is None:
        return low, high
    scale = np.float32(quantizer.scale)
    lowest, highest = (np.rint(np.float32(x) / scale) + quantizer.zero_point for x in (activation.low, activation.high))
    return int(max(low, lowest)), int(min(high, highest))


def _needed(nodes: Sequence[Node], outputs: Iterable[str]) -> tuple[list[Node], set[str]]:
    """The nodes that the outputs depend on, and the names that these read."""
    kept, read = [], set(outputs)
    for node in reversed(nodes):
        if not read.isdisjoint(node.output):
            kept.append(node)
            read.update(node.input)
    return kept[::-1], read

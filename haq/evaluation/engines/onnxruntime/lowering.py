"""From the template to the graph of a policy.

An input becomes QuantizeLinear, Clip on the codes, DequantizeLinear; weights become integer codes with one scale a
channel behind a DequantizeLinear. Runtimes turn these patterns into integer kernels; codes of any width up to 8 bits
lie in 8-bit containers. Batch norm goes into scales and biases *after* quantizing, so that the numbers are those of
fake quantization with the batch norm apart; where it turns a channel's sign, the codes turn theirs.
"""

import numpy as np
import onnx
from numpy.typing import NDArray

from haq.evaluation.engines.onnxruntime.assembly import Assembly
from haq.evaluation.engines.onnxruntime.codes import Integers, along, integer_weight, make_room
from haq.evaluation.engines.onnxruntime.marking import INPUT, MARKS, NORM, WEIGHT, epsilon_of, layer_of, norm_of
from haq.evaluation.engines.onnxruntime.template import Floats, Node, Product, Template
from haq.policy import PolicyBits
from haq.quantization.corrections import Corrections
from haq.quantization.quantized_model import Quantizers


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
    return Lowering(template, quantizers, bits, corrections=corrections or Corrections(), fold=fold).model()


class Lowering:
    """The graph of one policy while it is put together.

    `bias_rounding` [c_out] holds, by layer, what its integer bias adds to the output beside the exact one.
    """

    def __init__(
        self, template: Template, quantizers: Quantizers, bits: PolicyBits, *, corrections: Corrections, fold: bool
    ) -> None:
        self._template, self._corrections, self._fold = template, corrections, fold
        self._weights = [None if w is None else quantizers.codes(layer, w) for layer, w in enumerate(bits[0])]
        self._inputs = [None if a is None else quantizers.activation(layer, a) for layer, a in enumerate(bits[1])]
        self._graph = Assembly(template)
        self.bias_rounding: dict[int, Floats] = {}

    def model(self) -> onnx.ModelProto:
        """Everything in its place."""
        self._put_nodes()
        return self._graph.model(self._template.marked.graph.output)

    def _put_nodes(self) -> None:
        put = {INPUT: self._input, WEIGHT: self._layer, NORM: self._norm}
        for node in self._template.nodes:
            if node.domain == MARKS:
                put[node.op_type](node)
            else:
                self._graph.take(node)

    def _input(self, mark: Node) -> None:
        """The quantizer of a layer's input."""
        self._graph.put_input(mark, self._inputs[layer_of(mark)])

    def _layer(self, mark: Node) -> None:
        """A layer's weights and its bias, with the batch norm that followed in them."""
        layer = layer_of(mark)
        product, weight = self._template.products[layer], self._weights[layer]
        moments = self._corrections.statistics.get(product.norm.name) if product.norm else None
        affine = product.affine(self._corrections.biases.get(layer), moments)
        factor = affine.factor if product.norm else None
        if weight is None:
            self._float_weight(mark, product, factor)
            self._graph.constant(product.bias_tensor, affine.offset.astype(np.float32))
            return
        codes, step = integer_weight(weight, factor), self._integer_step(layer)
        if step is None:
            self._graph.constant(product.bias_tensor, affine.offset.astype(np.float32))
        else:
            codes = make_room(codes, affine.offset, step)
            bias = _integer_bias(affine.offset, codes.scale * np.float32(step))
            self._dequantized(product.bias_tensor, bias, product.bias_tensor)
            self.bias_rounding[layer] = bias.values - affine.offset
        codes = codes.turned if product.is_turned else codes
        if self._fold and step is None and product.operator != "MatMul":
            self._graph.constant(mark.output[0], codes.values)
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

    def _float_weight(self, mark: Node, product: Product, factor: Floats | None) -> None:
        if factor is None:
            self._graph.add("Identity", [mark.input[0]], mark.output[0])
            return
        axis = 1 if (product.operator == "ConvTranspose") != product.is_turned else 0
        values = along(factor.astype(np.float32), product.rank, axis)
        factors = self._graph.constant(f"{product.name}.weight.factor", values)
        self._graph.add("Mul", [mark.input[0], factors], mark.output[0])

    def _norm(self, mark: Node) -> None:
        """A batch norm that follows no layer, with its own statistics or the policy's."""
        inputs, moments = list(mark.input), self._corrections.statistics.get(norm_of(mark))
        for place, value in enumerate(moments or (), start=3):
            inputs[place] = self._graph.constant(f"{mark.output[0]}.{place}", value.float().numpy())
        self._graph.add("BatchNormalization", inputs, mark.output[0], epsilon=epsilon_of(mark))

    def _dequantized(self, name: str, integers: Integers, output: str) -> None:
        """Constant codes, and the node that gives their values."""
        zeros = np.zeros_like(integers.scale, integers.codes.dtype)
        parts = {"codes": integers.codes, "scale": integers.scale, "zero_point": zeros}
        inputs = [self._graph.constant(f"{name}.{part}", values) for part, values in parts.items()]
        self._graph.add("DequantizeLinear", inputs, output, axis=integers.axis)


def _integer_bias(offset: Floats, steps: NDArray[np.float32]) -> Integers:
    """A bias [c_out] in whole steps of the accumulator."""
    return Integers(np.rint(offset / steps).astype(np.int32), steps, 0)

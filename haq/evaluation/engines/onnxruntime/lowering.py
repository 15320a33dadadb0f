"""Lowering of a template to the ONNX graph of a policy.

An input becomes QuantizeLinear, Clip of the codes, DequantizeLinear; weights become integer codes with one scale per
channel, followed by DequantizeLinear. Runtimes turn these patterns into integer kernels; codes of any width up to 8
bits are stored in 8 bits. Batch norm is folded into scales and biases *after* quantization, so the values are those of
fake quantization followed by batch norm; where its factor is negative, the codes change sign.
"""

import numpy as np
import onnx
from numpy.typing import NDArray

from haq.evaluation.engines.onnxruntime.assembly import Assembly
from haq.evaluation.engines.onnxruntime.bias_rounding import Accumulator, decisive_bias, nearest_bias
from haq.evaluation.engines.onnxruntime.codes import (
    Integers,
    align_channels,
    enlarge_scales,
    fill_factor,
    integer_weight,
)
from haq.evaluation.engines.onnxruntime.marking import (
    INPUT,
    MARKS,
    NORM,
    SECOND_INPUT,
    WEIGHT,
    epsilon_of,
    layer_of,
    norm_of,
    operand_of,
)
from haq.evaluation.engines.onnxruntime.template import Affine, Floats, Node, Product, Template
from haq.policy import PolicyBits
from haq.quantization.corrections import Corrections
from haq.quantization.linear import QuantizerParameters
from haq.quantization.quantizers import Quantizers


def lower(
    template: Template,
    quantizers: Quantizers,
    bits: PolicyBits,
    *,
    corrections: Corrections | None = None,
) -> onnx.ModelProto:
    """Build the graph of a policy.

    Args:
        template: Graph without the quantizers, weights and biases of its layers.
        quantizers: Quantizers of weights and activations.
        bits: (w_bits, a_bits) of every layer; None leaves weights or inputs in float.
        corrections: Corrections of the policy.

    Returns:
        The ONNX model.
    """
    return Lowering(template, quantizers, bits, corrections=corrections or Corrections(), fold=False).model()


class Lowering:
    """Builder of the graph of one policy.

    Args:
        template: Graph without the quantizers, weights and biases of its layers.
        quantizers: Quantizers of weights and activations.
        bits: (w_bits, a_bits) of every layer; None leaves weights or inputs in float.
        corrections: Corrections of the policy.
        fold: Whether to store the weights of layers without integer kernel as the floats that their codes stand for:
            the same numbers in a larger file that onnxruntime runs faster.

    Attributes:
        bias_rounding: By layer, the difference [c_out] between its integer bias and the exact one.
    """

    def __init__(
        self, template: Template, quantizers: Quantizers, bits: PolicyBits, *, corrections: Corrections, fold: bool
    ) -> None:
        self._template, self._corrections, self._fold = template, corrections, fold
        self._weights = [
            quantizers.codes(layer, w) if w is not None and product.has_weights else None
            for layer, (w, product) in enumerate(zip(bits[0], template.products, strict=True))
        ]
        self._inputs = [None if a is None else quantizers.activation(layer, a) for layer, a in enumerate(bits[1])]
        self._second_inputs = {
            layer: quantizers.second_activation(layer, w)
            for layer, (w, product) in enumerate(zip(bits[0], template.products, strict=True))
            if w is not None and not product.has_weights
        }
        self._graph = Assembly(template)
        self.bias_rounding: dict[int, Floats] = {}

    def model(self) -> onnx.ModelProto:
        """Return the graph."""
        self._put_nodes()
        return self._graph.model(self._template.marked.graph.output)

    def _put_nodes(self) -> None:
        handlers = {INPUT: self._input, SECOND_INPUT: self._input, WEIGHT: self._layer, NORM: self._norm}
        for node in self._template.nodes:
            if node.domain == MARKS:
                handlers[node.op_type](node)
            else:
                self._other(node)

    def _other(self, node: Node) -> None:
        """Add a node that is no mark."""
        self._graph.append(node)

    def _input(self, mark: Node) -> None:
        """Add the quantizer of an operand of a layer."""
        self._graph.add_input(mark, self._quantizer(mark))

    def _quantizer(self, mark: Node) -> QuantizerParameters | None:
        """Return the quantizer of an operand; None in float."""
        layer, operand = operand_of(mark)
        return self._inputs[layer] if operand == "input" else self._second_inputs.get(layer)

    def _layer(self, mark: Node) -> None:
        """Add a layer's weights and bias, with the batch norm that follows folded in."""
        layer = layer_of(mark)
        product, weight = self._template.products[layer], self._weights[layer]
        affine = self._affine(layer)
        factor = affine.scaling
        if weight is None:
            self._float_weight(mark, product, factor)
            self._graph.constant(product.bias_tensor, affine.offset.astype(np.float32))
            return
        codes, step = integer_weight(weight, factor), self._integer_step(layer)
        if step is None:
            self._graph.constant(product.bias_tensor, affine.offset.astype(np.float32))
        else:
            codes = enlarge_scales(codes, affine.offset, step)
            bias = self._integer_bias(layer, affine.offset, codes.scale * np.float32(step))
            self._dequantized(product.bias_tensor, bias, product.bias_tensor)
            self.bias_rounding[layer] = bias.values - affine.offset
        codes = codes.transposed if product.is_transposed else codes
        is_folded = self._fold and step is None and not self._needs_codes(layer)
        self._put_weight(product.name, codes, mark.output[0], is_folded=is_folded)

    def _needs_codes(self, layer: int) -> bool:
        """Return whether onnxruntime computes a layer without integer bias correctly, or fast, only from codes.

        Matrix products have integer kernels with a bias in float. Constant weights of transposed convolutions are
        quantized by onnxruntime itself, with one scale for all channels, if input and output are quantized. Matrix
        products of floats with codes are no reason: onnxruntime quantizes their input by itself.
        """
        operator, is_quantized = self._template.products[layer].operator, self._inputs[layer] is not None
        return is_quantized and operator in ("MatMul", "ConvTranspose")

    def _put_weight(self, layer: str, codes: Integers, output: str, *, is_folded: bool) -> None:
        """Add the weights of a layer, as floats if onnxruntime computes the layer in floats anyway."""
        if is_folded:
            self._graph.constant(output, codes.values)
        else:
            self._dequantized(f"{layer}.weight", codes, output)

    def _affine(self, layer: int) -> Affine:
        """Return bias and batch norm of a layer, with corrections, as one affine function."""
        return self._affine_of(layer, self._template.products[layer])

    def _affine_of(self, layer: int, product: Product) -> Affine:
        return product.affine(layer, self._corrections)

    def _integer_step(self, layer: int) -> float | None:
        """Return the scale of a layer's input, or None if runtimes cannot compute layer and bias in integers."""
        product, quantizer = self._template.products[layer], self._inputs[layer]
        outputs = self._readers(layer)
        output_is_quantized = len(outputs) == 1 and all(each is not None and not each.offset for each in outputs)
        if quantizer is None or not (
            product.operator == "Gemm" or (product.operator == "Conv" and output_is_quantized)
        ):
            return None
        return quantizer.scale

    def _integer_bias(self, layer: int, offset: Floats, steps: NDArray[np.float32]) -> Integers:
        """Round a bias [c_out] to whole steps of the accumulator."""
        output, weight = next(iter(self._readers(layer)), None), self._weights[layer]
        if output is None or weight is None or weight.bits > 1:
            return Integers(nearest_bias(offset, steps).astype(np.int32), steps, 0)
        accumulator = Accumulator(steps.astype(np.float64), fill_factor(weight.bits), output)
        return Integers(decisive_bias(offset, accumulator).astype(np.int32), steps, 0)

    def _readers(self, layer: int) -> set[QuantizerParameters | None]:
        """Return the quantizers of a layer's output."""
        return {self._inputs[reader] for reader in self._template.next_layers[self._template.products[layer].output]}

    def _float_weight(self, mark: Node, product: Product, factor: Floats | None) -> None:
        if factor is None:
            self._graph.add("Identity", [mark.input[0]], mark.output[0])
            return
        axis = 1 if (product.operator == "ConvTranspose") != product.is_transposed else 0
        values = align_channels(factor.astype(np.float32), product.rank, axis)
        factors = self._graph.constant(f"{product.name}.weight.factor", values)
        self._graph.add("Mul", [mark.input[0], factors], mark.output[0])

    def _norm(self, mark: Node) -> None:
        """Add a batch norm that follows no layer, with its own statistics or those of the policy."""
        inputs, moments = list(mark.input), self._corrections.statistics.get(norm_of(mark))
        for place, value in enumerate(moments or (), start=3):
            inputs[place] = self._graph.constant(f"{mark.output[0]}.{place}", value.float().numpy())
        self._graph.add("BatchNormalization", inputs, mark.output[0], epsilon=epsilon_of(mark))

    def _dequantized(self, name: str, integers: Integers, output: str) -> None:
        """Add constant codes, and the node that computes their values."""
        codes = self._graph.constant(f"{name}.codes", integers.codes)
        self._graph.add("DequantizeLinear", [codes, *self._scales(name, integers)], output, axis=integers.axis)

    def _scales(self, name: str, integers: Integers) -> list[str]:
        """Add scales and zero points, and return their names."""
        parts = {"scale": integers.scale, "zero_point": np.zeros_like(integers.scale, integers.codes.dtype)}
        return [self._graph.constant(f"{name}.{part}", values) for part, values in parts.items()]

"""Lowering of a template to a QONNX graph: floats that pass through `Quant` nodes of the true widths.

Batch norm is folded into the scales of weights and into biases after quantization, as in the graph that the search
evaluates. Where the scales of weights are powers of two, folding would take them off these, and batch norm stays a node
behind the layer. Biases stay in float.
"""

from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from haq.errors import UserError
from haq.evaluation.engines.onnxruntime.codes import SMALLEST_STEP, align_channels, integer_weight
from haq.evaluation.engines.onnxruntime.lowering import Lowering
from haq.evaluation.engines.onnxruntime.marking import attribute, layer_of
from haq.evaluation.engines.onnxruntime.template import Floats, Node
from haq.experiment.target_quantizers import are_powers_of_two
from haq.exporters.deployable import Deployable
from haq.quantization.linear import QuantizedWeight, QuantizerParameters
from haq.quantization.range import IntegerRange, weight_range

DOMAIN = "qonnx.custom_op.general"
"""Domain of the operator `Quant`, of version 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Grid of a `Quant` node: value = (code - zero_point) * scale.

    Attributes:
        bits: Bit width.
        scale: float32 [] or broadcastable to the tensor.
        zero_point: Code of zero.
        signed: Whether codes are signed.
        narrow: Whether the lowest signed code is left out.
    """

    bits: int
    scale: NDArray[np.float32]
    zero_point: int = 0
    signed: bool = True
    narrow: bool = False


def activation_grid(quantizer: QuantizerParameters, name: str) -> Grid:
    """Return the grid of an activation.

    Signed codes of 1 bit would be -1 and 1 in QONNX, so they are stored as unsigned ones.

    Args:
        quantizer: Parameters of the quantizer.
        name: Name of the activation, for the message.

    Returns:
        The grid.

    Raises:
        UserError: The codes do not fill their bits.
    """
    full = IntegerRange(quantizer.bits, signed=quantizer.signed)
    if (quantizer.q_min, quantizer.q_max) != (full.q_min, full.q_max):
        found, all_codes = f"{quantizer.q_min}..{quantizer.q_max}", f"{full.q_min}..{full.q_max}"
        raise UserError(f"--format qonnx: codes of {name} are {found}; a Quant node takes {all_codes}")
    is_signed = quantizer.signed and quantizer.bits > 1
    zero_point = quantizer.zero_point if is_signed else quantizer.zero_point - quantizer.q_min
    return Grid(quantizer.bits, np.array(quantizer.scale, np.float32), zero_point, signed=is_signed)


def weight_grid(weight: QuantizedWeight, factor: Floats | None = None) -> tuple[NDArray[np.float32], Grid]:
    """Fold a factor per channel into quantized weights.

    Codes of 1 bit, -1 and 0, are stored as unsigned ones with negative scales. The lowest code of 2 and 3 bits has no
    opposite: where the factor is negative, the scale is.

    Args:
        weight: Quantized weights.
        factor: Factors, [channels]; None for 1.

    Returns:
        Values of the weights, float32, and their grid.
    """
    if weight.bits == 1:
        scale, codes = _signed_scale(-weight.scale.numpy(), factor), -weight.codes.numpy()
    elif not weight_range(weight.bits).narrow:
        scale, codes = _signed_scale(weight.scale.numpy(), factor), weight.codes.numpy()
    else:
        integers = integer_weight(weight, factor, fill=False)
        scale, codes = np.maximum(integers.scale, np.float32(SMALLEST_STEP)), integers.codes
    aligned: NDArray[np.float32] = align_channels(scale, codes.ndim, weight.channel_axis)
    narrow = weight_range(weight.bits).narrow
    return codes.astype(np.float32) * aligned, Grid(weight.bits, aligned, signed=weight.bits > 1, narrow=narrow)


def _signed_scale(scale: NDArray[np.float32], factor: Floats | None) -> NDArray[np.float32]:
    """Multiply scales with a factor per channel that may be negative."""
    scales = scale.astype(np.float64) * (1.0 if factor is None else factor)
    return np.where(np.abs(scales) < SMALLEST_STEP, SMALLEST_STEP, scales).astype(np.float32)


class QuantLowering(Lowering):
    """Builder of the QONNX graph of a policy.

    Args:
        network: Network with its policy.
    """

    def __init__(self, network: Deployable) -> None:
        super().__init__(
            network.template, network.quantizers, network.bits, corrections=network.corrections, fold=False
        )
        self._kept = {
            product.output: norm
            for product, weight in zip(network.template.products, self._weights, strict=True)
            if (norm := product.norm) is not None and weight is not None and are_powers_of_two(weight.scale)
        }

    def model(self) -> onnx.ModelProto:
        """Return the graph."""
        self._put_nodes()
        model = self._graph.model(self._template.marked.graph.output)
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
        weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
        weights |= {node.output[0]: weights[node.input[0]] for node in model.graph.node if node.input[0] in weights}
        for node in model.graph.node:
            if node.op_type == "Conv":
                _complete(node, weights)
        return model

    def _other(self, node: Node) -> None:
        """Add a node, and the batch norm that follows a layer if it is not folded."""
        norm = self._kept.get(node.output[0])
        if norm is None:
            super()._other(node)
            return
        output, layer = node.output[0], Node()
        layer.CopyFrom(node)
        layer.output[0] = f"{output}.exact"
        self._graph.append(layer)
        moments = self._corrections.statistics.get(norm.name)
        mean, variance = (norm.mean, norm.variance) if moments is None else (x.numpy() for x in moments)
        parts = {"gamma": norm.gamma, "beta": norm.beta, "mean": mean, "variance": variance}
        inputs = [self._graph.constant(f"{output}.{part}", values.astype(np.float32)) for part, values in parts.items()]
        self._graph.add("BatchNormalization", [layer.output[0], *inputs], output, epsilon=norm.epsilon)

    def _input(self, mark: Node) -> None:
        """Add the activation function and the quantizer before a layer."""
        quantizer, name = self._quantizer(mark), self._graph.operand_name(mark)
        if quantizer is None:
            super()._input(mark)
            return
        self._quant(self._activated(mark), activation_grid(quantizer, name), name, mark.output[0])

    def _activated(self, mark: Node) -> str:
        """Add the activation function before a layer, if it has one; return the name of its output."""
        activation = self._template.activations.get(mark.output[0])
        if activation is None:
            return str(mark.input[0])
        name = f"{self._graph.operand_name(mark)}.activated"
        return self._graph.add(activation.operator, [mark.input[0], *activation.inputs], name)

    def _layer(self, mark: Node) -> None:
        """Add a layer's weights with their quantizer, and its bias."""
        layer = layer_of(mark)
        product, weight = self._template.products[layer], self._weights[layer]
        if product.output in self._kept:
            product = replace(product, norm=None)
        affine = self._affine_of(layer, product)
        factor = affine.scaling
        self._graph.constant(product.bias_tensor, affine.offset.astype(np.float32))
        if weight is None:
            self._float_weight(mark, product, factor)
            return
        values, grid = weight_grid(weight, factor)
        if product.is_transposed:
            values, grid = np.ascontiguousarray(values.T), replace(grid, scale=np.ascontiguousarray(grid.scale.T))
        source = self._graph.constant(f"{product.name}.weight.values", values)
        self._quant(source, grid, f"{product.name}.weight", mark.output[0])

    def _quant(self, source: str, grid: Grid, name: str, output: str) -> None:
        """Add a `Quant` node."""
        numbers = {"scale": grid.scale, "zero_point": np.float32(grid.zero_point), "bits": np.float32(grid.bits)}
        inputs = [self._graph.constant(f"{name}.{part}", value) for part, value in numbers.items()]
        self._graph.add(
            "Quant",
            [source, *inputs],
            output,
            domain=DOMAIN,
            signed=int(grid.signed),
            narrow=int(grid.narrow),
            rounding_mode="ROUND",
        )


def _complete(node: Node, weights: dict[str, tuple[int, ...]]) -> None:
    """Write all attributes of a convolution; tools of FPGAs do not assume the defaults."""
    kernel = list(attribute(node, "kernel_shape", None) or weights[node.input[1]][2:])
    defaults = {
        "kernel_shape": kernel,
        "strides": [1] * len(kernel),
        "dilations": [1] * len(kernel),
        "pads": [0] * 2 * len(kernel),
        "group": 1,
    }
    present = {found.name for found in node.attribute}
    node.attribute.extend(helper.make_attribute(name, x) for name, x in defaults.items() if name not in present)

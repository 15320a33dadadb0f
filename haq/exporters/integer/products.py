"""Integer weights and biases of the products of an integer network."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from haq.evaluation.engines.onnxruntime.codes import Integers, enlarge_scales, integer_weight
from haq.exporters.integer.grids import WHOLE_BITS
from haq.exporters.integer.network import Codes
from haq.exporters.integer.network import Integers as Int32
from haq.exporters.integer.reading.steps import ProductStep
from haq.quantization.linear import QuantizedWeight

_LARGEST_CODE = 127


@dataclass(frozen=True, slots=True, eq=False)
class ProductCodes:
    """Weights and bias of a product.

    Attributes:
        weights: Codes, [c_out, ...].
        w_bits: Bits of the codes.
        w_scale: Step sizes, exact in float32, [c_out].
        shift: Left shift of the sums of products.
        bias: In steps of the shifted sums, [c_out].
    """

    weights: Codes
    w_bits: int
    w_scale: NDArray[np.float64]
    shift: int
    bias: Int32


def product_codes(step: ProductStep, weight: QuantizedWeight | None, input_scale: float) -> ProductCodes:
    """Compute the weights and the bias of a product; batch norm is folded into scales, its sign into codes.

    Sums of narrow codes are shifted as far as sums of int8 codes reach, so that biases are rounded to steps as fine as
    those of int8.

    Args:
        step: The product.
        weight: Weights of its layer; None for a scale and an offset per channel.
        input_scale: Scale of its input.

    Returns:
        The codes.
    """
    if weight is None:
        integers, bits = _channel_factors(step), WHOLE_BITS
    else:
        integers = integer_weight(weight, step.affine.scaling, fill=False)
        bits = weight.bits
    shift = WHOLE_BITS - max(bits, 2)
    steps = Integers(integers.codes, integers.scale / np.float32(1 << shift), integers.axis)
    steps = enlarge_scales(steps, step.affine.offset, input_scale)
    scale = steps.scale.astype(np.float64)
    bias = np.rint(step.affine.offset / (scale * input_scale)).astype(np.int32)
    return ProductCodes(steps.codes.astype(np.int8), bits, scale * (1 << shift), shift, bias)


def _channel_factors(step: ProductStep) -> Integers:
    """Return the factors of channels as weights of a depthwise convolution of one pixel."""
    factor = step.affine.factor
    magnitude = np.where(factor == 0, 1.0, np.abs(factor))
    codes = (np.sign(factor) * _LARGEST_CODE).astype(np.int8)
    return Integers(codes.reshape(-1, 1, 1, 1), (magnitude / _LARGEST_CODE).astype(np.float32), 0)

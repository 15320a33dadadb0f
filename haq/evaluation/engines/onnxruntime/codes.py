"""Integer weights and biases of a layer, with the batch norm that follows it folded into their scales."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haq.evaluation.engines.onnxruntime.template import Floats
from haq.quantization.linear import QuantizedWeight
from haq.quantization.range import weight_range

_LARGEST_CODE = 127
LARGEST_BIAS = 2.0**30
"""In steps of the accumulator; leaves room in int32 for the products."""
SMALLEST_STEP = 1e-30
"""Smallest step of an accumulator; still a normal number in float32."""


@dataclass(frozen=True, slots=True, eq=False)
class Integers:
    """Integer codes with a scale per channel and zero point 0: value = code * scale.

    Attributes:
        codes: int8 or int32, in the shape of the weight or bias.
        scale: float32 [channels].
        axis: Axis of the channels among those of the codes.
    """

    codes: NDArray[np.signedinteger[Any]]
    scale: NDArray[np.float32]
    axis: int

    @property
    def values(self) -> NDArray[np.float32]:
        """Values of the codes in float32, as DequantizeLinear computes them."""
        scale: NDArray[np.float32] = align_channels(self.scale, self.codes.ndim, self.axis)
        return self.codes.astype(np.float32) * scale

    @property
    def transposed(self) -> "Integers":
        """The transposed codes."""
        return Integers(np.ascontiguousarray(self.codes.T), self.scale, 1 - self.axis)


def integer_weight(weight: QuantizedWeight, factor: Floats | None = None, *, fill: bool = True) -> Integers:
    """Fold a factor per channel into quantized weights; its sign goes into the codes.

    Codes of fewer than 8 bits are stored as multiples of a power of two, with scales that are smaller by that power,
    if they are to fill int8. The values are the same; accumulators, and so biases, get finer steps at no cost.

    Args:
        weight: Quantized weights.
        factor: Factors, [channels]; None for 1.
        fill: Whether codes fill int8.

    Returns:
        Codes, int8 in the shape of the weight, and scales.
    """
    room = np.int8(fill_factor(weight.bits) if fill else 1)
    codes, scale = weight.codes.numpy() * room, weight.scale.numpy().astype(np.float64) / room
    if factor is not None:
        codes = codes * align_channels(np.where(factor < 0, -1, 1).astype(np.int8), codes.ndim, weight.channel_axis)
        scale = scale * np.abs(factor)
    return Integers(codes, scale.astype(np.float32), weight.channel_axis)


def fill_factor(bits: int) -> int:
    """Return the power of two by which codes are multiplied to fill int8.

    Args:
        bits: Bits of the codes.

    Returns:
        The largest one with which every code fits, also if a batch norm changes its sign.

    Examples:
        >>> [fill_factor(bits) for bits in (1, 2, 3, 4, 8)]
        [64, 32, 16, 16, 1]
    """
    largest = -weight_range(bits).q_min
    return 1 << (_LARGEST_CODE // largest).bit_length() - 1


def enlarge_scales(weight: Integers, offset: Floats, input_scale: float) -> Integers:
    """Enlarge the scales of weights until biases, in steps of scale * input_scale, fit into int32.

    Only channels that batch norm scales almost to zero are changed: their weights hardly matter beside such a bias.

    Args:
        weight: Integer weights.
        offset: Biases, [channels].
        input_scale: Scale of the layer's input.

    Returns:
        The weights, rounded to the enlarged scales.
    """
    least = np.maximum(np.abs(offset) / LARGEST_BIAS, SMALLEST_STEP) / input_scale
    scale = np.maximum(weight.scale, least).astype(np.float32)
    shrink = align_channels(np.where(weight.scale < least, weight.scale / scale, 1.0), weight.codes.ndim, weight.axis)
    return Integers(np.rint(weight.codes * shrink).astype(np.int8), scale, weight.axis)


def align_channels(values: NDArray[Any], ndim: int, axis: int) -> NDArray[Any]:
    """Reshape per-channel values so that they broadcast along one axis of an array.

    Args:
        values: Array [channels].
        ndim: Number of dimensions of the array.
        axis: Axis of the channels.

    Returns:
        The values with `ndim` dimensions.
    """
    return values.reshape([-1 if dim == axis else 1 for dim in range(ndim)])

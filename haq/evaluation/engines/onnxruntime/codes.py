"""The integers of a layer: weights with what follows the layer scaled in, and the bias in steps of the accumulator."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haq.evaluation.engines.onnxruntime.template import Floats
from haq.quantization.linear import QuantizedWeight

LARGEST_BIAS = 2.0**30
"""In steps; leaves int32 room for the products."""
SMALLEST_STEP = 1e-30
"""Of an accumulator; float32 still holds it as a normal number."""


@dataclass(frozen=True, slots=True, eq=False)
class Integers:
    """Values = codes * scale of the channel, zero point 0."""

    codes: NDArray[np.signedinteger[Any]]
    scale: NDArray[np.float32]
    axis: int
    """Of the channels among the codes' axes."""

    @property
    def values(self) -> NDArray[np.float32]:
        """What the codes stand for, in float32 as DequantizeLinear computes it."""
        scale: NDArray[np.float32] = along(self.scale, self.codes.ndim, self.axis)
        return self.codes.astype(np.float32) * scale

    @property
    def turned(self) -> "Integers":
        """The same transposed."""
        return Integers(np.ascontiguousarray(self.codes.T), self.scale, 1 - self.axis)


def integer_weight(weight: QuantizedWeight, factor: Floats | None = None) -> Integers:
    """Weights times a factor for each channel, whose sign the codes take.

    Codes of less than 8 bits are stored as multiples of a power of two, with scales that are smaller by it. The values
    are the same; accumulators, and so biases, get finer steps at no cost.
    """
    room = np.int8(1 << 8 - max(weight.bits, 2))
    codes, scale = weight.codes.numpy() * room, weight.scale.numpy().astype(np.float64) / room
    if factor is not None:
        codes = codes * along(np.where(factor < 0, -1, 1).astype(np.int8), codes.ndim, weight.channel_axis)
        scale = scale * np.abs(factor)
    return Integers(codes, scale.astype(np.float32), weight.channel_axis)


def make_room(weight: Integers, offset: Floats, input_scale: float) -> Integers:
    """The weights with scales so large that biases, in steps of scale * input_scale, fit into int32.

    Only channels whose batch norm all but silences their weights are touched: beside such a bias they hardly count.
    """
    least = np.maximum(np.abs(offset) / LARGEST_BIAS, SMALLEST_STEP) / input_scale
    scale = np.maximum(weight.scale, least).astype(np.float32)
    shrink = along(np.where(weight.scale < least, weight.scale / scale, 1.0), weight.codes.ndim, weight.axis)
    return Integers(np.rint(weight.codes * shrink).astype(np.int8), scale, weight.axis)


def along(values: NDArray[Any], ndim: int, axis: int) -> NDArray[Any]:
    """Values [channels] in a shape that broadcasts along one axis."""
    return values.reshape([-1 if dim == axis else 1 for dim in range(ndim)])

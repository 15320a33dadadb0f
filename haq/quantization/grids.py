"""Initial grids of learnable quantizers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from haq.quantization.affine import Shift, affine_fits
from haq.quantization.histogram import Histogram, channel_histograms
from haq.quantization.range import IntegerRange


@dataclass(frozen=True, slots=True)
class Grid:
    """Grid that a quantizer starts from.

    Attributes:
        scale: Step size, above 0, [] or [channels].
        zero_point: Code of zero, in the shape of `scale`; a whole number except with a float shift.
        signed: Whether codes are signed.
    """

    scale: Tensor
    zero_point: Tensor
    signed: bool


def least_error_grid(
    x: Tensor | Histogram,
    codes: IntegerRange,
    *,
    shift: Shift = "integer",
    power_of_two: bool = False,
    channel_axis: int | None = None,
) -> Grid:
    """Find the grid of least squared error.

    Args:
        x: Values to be quantized, or their histogram.
        codes: Range of the codes.
        shift: How the grid may be shifted.
        power_of_two: Whether scales are powers of two.
        channel_axis: Axis of the channels that each have a grid; None for one grid for all values.

    Returns:
        The grid, on the device of the values; the scale is 1 if all of them are zero.

    Raises:
        ValueError: There are no values, a value is not finite, or a histogram is given with `channel_axis`.
    """
    if isinstance(x, Histogram) and channel_axis is not None:
        raise ValueError("one histogram cannot calibrate channel by channel; give the tensor itself")
    histograms = [x] if isinstance(x, Histogram) else channel_histograms(x, channel_axis)
    fits = [
        affine_fits(
            each,
            signed=codes.signed,
            shift=shift,
            narrow=codes.narrow,
            power_of_two=power_of_two,
            bits=(codes.bits,),
        )[codes.bits]
        for each in histograms
    ]
    grids = torch.tensor([(fit.scale, fit.zero_point) for fit in fits])
    scale, zero_point = grids.to(x.device if isinstance(x, Tensor) else "cpu").unbind(dim=1)
    shape = [] if channel_axis is None else [len(fits)]
    return Grid(scale.reshape(shape), zero_point.reshape(shape), signed=codes.signed)

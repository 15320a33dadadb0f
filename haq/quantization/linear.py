"""Linear quantizer: per-channel weights without zero point, per-tensor activations with an optional zero point."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import frexp

import numpy as np
import torch
from torch import Tensor

from haq.quantization.affine import affine_fits
from haq.quantization.calibration import MethodChoice, clips, distortion, method_at
from haq.quantization.channel_errors import above_zero, least_error_clips
from haq.quantization.histogram import Histogram, build_histogram
from haq.quantization.range import ALL_BITS, IntegerRange, align_channels, dequantize, quantize, weight_range
from haq.settings import ZeroPoints


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class QuantizedWeight:
    """Integer weights: value = (code - zero_point) * scale of the channel.

    Attributes:
        codes: int8, in the shape of the weight.
        scale: float32 [channels], above 0.
        bits: Bit width of the codes.
        channel_axis: Axis of the channels that have scales.
        zero_point: Code of zero.
    """

    codes: Tensor
    scale: Tensor
    bits: int
    channel_axis: int
    zero_point: int = 0

    def dequantize(self) -> Tensor:
        """Return the values of the weights, float32 in the shape of the weight."""
        return dequantize(self.codes, align_channels(self.scale, self.codes.ndim, self.channel_axis), self.zero_point)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizerParameters:
    """Parameters of the quantizer of one activation tensor: value = (code - zero_point) * scale + offset.

    Attributes:
        bits: Bit width of the codes.
        signed: Whether the codes are signed.
        scale: Step size, above 0 and exact in float32.
        zero_point: Code of zero.
        q_min: Lowest code.
        q_max: Highest code.
        offset: Value of the zero point's code. It is subtracted before values are quantized, and a bias of the layer
            that multiplies them makes up for it.
    """

    bits: int
    signed: bool
    scale: float
    zero_point: int
    q_min: int
    q_max: int
    offset: float = 0.0


def quantize_weight(
    weight: Tensor, bits: int, *, channel_axis: int = 0, method: MethodChoice = "mse"
) -> QuantizedWeight:
    """Calibrate and quantize weights at one bit width; for several use `weight_clips` and `quantize_to_clips`.

    Args:
        weight: Weights of any shape with at least one axis.
        bits: Bit width, 1 to 8.
        channel_axis: Axis of the channels, each of which has a scale.
        method: Calibration method.

    Returns:
        The quantized weights.

    Raises:
        ValueError: The weights are empty or not finite, `bits` is outside 1..8, or the method is unknown.

    Examples:
        >>> quantize_weight(torch.tensor([[0.5, -1.0, 0.1], [0.0, 0.0, 0.0]]), 3, method="max").codes.tolist()
        [[2, -3, 0], [0, 0, 0]]
    """
    clip = weight_clips(weight, channel_axis=channel_axis, method=method, bits=(bits,))[bits]
    return quantize_to_clips(weight, bits, clip=clip, channel_axis=channel_axis)


def quantize_to_clips(weight: Tensor, bits: int, *, clip: Tensor, channel_axis: int = 0) -> QuantizedWeight:
    """Quantize weights with given clips; the range of the codes is that of `weight_range`.

    A channel in which all weights are zero gets the layer's largest scale: its codes are 0 at any scale, and a bias
    that is later expressed in steps of the scale stays in range.

    Args:
        weight: Weights of any shape with at least one axis.
        bits: Bit width, 1 to 8.
        clip: Largest magnitude of each channel, [channels].
        channel_axis: Axis of the channels.

    Returns:
        The quantized weights.
    """
    grid = weight_range(bits)
    scale = (clip / grid.steps).to(torch.float32)
    largest = scale.max()
    scale = torch.where(scale > 0, scale, torch.where(largest > 0, largest, 1.0))
    return quantize_to_scale(weight, bits, scale=scale, channel_axis=channel_axis)


def quantize_to_scale(weight: Tensor, bits: int, *, scale: Tensor, channel_axis: int = 0) -> QuantizedWeight:
    """Quantize weights with given scales; the range of the codes is that of `weight_range`.

    Args:
        weight: Weights of any shape with at least one axis.
        bits: Bit width, 1 to 8.
        scale: Step size of each channel, float32 [channels], above 0.
        channel_axis: Axis of the channels.

    Returns:
        The quantized weights.
    """
    grid = weight_range(bits)
    aligned = align_channels(scale, weight.ndim, channel_axis)
    codes = quantize(weight.detach().to(torch.float32), aligned, 0, grid.q_min, grid.q_max)
    return QuantizedWeight(codes=codes.to(torch.int8), scale=scale, bits=bits, channel_axis=channel_axis)


def weight_clips(
    weight: Tensor, *, channel_axis: int = 0, method: MethodChoice = "mse", bits: Iterable[int] = ALL_BITS
) -> dict[int, Tensor]:
    """Calibrate the clips of weights for every bit width, in one pass over the weights.

    `max` and `mse` look at each channel alone. The other methods compare distributions, and a channel may have as few
    as nine weights: they find one clip for all channels together, in units of each channel's root mean square.

    The output channels of a transposed convolution are axis 1. With groups that axis has c_out / groups entries: the
    channels at the same position of every group share a scale.

    Args:
        weight: Weights of any shape with at least one axis.
        channel_axis: Axis of the channels.
        method: Calibration method, or one for each bit width.
        bits: Bit widths, each 1 to 8.

    Returns:
        Clips by bit width, float32 [channels]; 0 for a channel of zeros.

    Raises:
        ValueError: The weights are empty or not finite, a bit width is outside 1..8, or the method is unknown.
    """
    rows = weight.detach().to(torch.float32).movedim(channel_axis, 0).flatten(1)
    if not rows.numel() or not rows.isfinite().all():
        raise ValueError(f"weights must be finite and at least one, got shape {list(weight.shape)} or NaN or infinity")
    chosen = {width: method_at(method, width) for width in bits}
    peak = rows.abs().amax(dim=1)
    found = least_error_clips(rows, peak, [width for width, name in chosen.items() if name == "mse"])
    found |= {width: peak for width, name in chosen.items() if name == "max"}
    pooled = {width: name for width, name in chosen.items() if width not in found}
    if pooled:
        root_mean_square = (rows.square().mean(dim=1)).sqrt()
        units = rows / above_zero(root_mean_square)[:, None]
        common = clips(build_histogram([units]), method=pooled, signed=True, narrow=True, bits=pooled)
        found |= {width: torch.minimum(root_mean_square * clip, peak) for width, clip in common.items()}
    return {width: found[width] for width in chosen}


def activation_quantizers(
    histogram: Histogram,
    *,
    method: MethodChoice,
    zero_points: ZeroPoints = "auto",
    power_of_two: bool = False,
    bits: Iterable[int] = ALL_BITS,
) -> dict[int, QuantizerParameters]:
    """Calibrate the quantizer of one tensor for every bit width.

    Codes are unsigned if calibration saw no negative value. Signed codes use the full range, so that 8 bits are plain
    int8; with the method `mse` they get a zero point if it lowers the error by 0.1 dB or more (`affine.affine_fits`),
    as for SiLU, GELU, LeakyReLU and sums of residuals. The other methods choose one clip for both signs, and have no
    zero point.

    Args:
        histogram: Histogram of the tensor's values.
        method: Calibration method, or one for each bit width.
        zero_points: `auto` for zero points where they help, `none` for none.
        power_of_two: Whether scales are powers of two: of the two around a calibrated scale the one of less squared
            error, with a zero point the one of least error of all.
        bits: Bit widths, each 1 to 8.

    Returns:
        The quantizer by bit width.

    Raises:
        ValueError: The histogram is empty, a bit width is outside 1..8, or the method is unknown.
    """
    methods = {width: method_at(method, width) for width in bits}
    shifted = [width for width, name in methods.items() if name == "mse" and zero_points == "auto" and histogram.signed]
    fits = affine_fits(histogram, signed=True, power_of_two=power_of_two, bits=shifted) if shifted else {}
    plain = [width for width in methods if width not in fits]
    found = clips(histogram, method=method, signed=histogram.signed, bits=plain)
    grids = {width: IntegerRange(width, signed=histogram.signed) for width in methods}
    scales = {width: clip / grids[width].steps for width, clip in found.items()}
    if power_of_two:
        scales = {width: _power_of_two(histogram, scale, grids[width]) for width, scale in scales.items()}
    return {
        width: _parameters(grid, fits[width].scale, round(fits[width].zero_point))
        if width in fits
        else _parameters(grid, scales[width])
        for width, grid in grids.items()
    }


def activation_quantizer(
    histogram: Histogram,
    bits: int,
    *,
    method: MethodChoice,
    zero_points: ZeroPoints = "auto",
    power_of_two: bool = False,
) -> QuantizerParameters:
    """Calibrate the quantizer of one tensor at one bit width.

    Args:
        histogram: Histogram of the tensor's values.
        bits: Bit width, 1 to 8.
        method: Calibration method.
        zero_points: `auto` for a zero point where it helps, `none` for none.
        power_of_two: Whether the scale is a power of two.

    Returns:
        The quantizer.

    Raises:
        ValueError: The histogram is empty, `bits` is outside 1..8, or the method is unknown.

    Examples:
        >>> activation_quantizer(build_histogram([torch.tensor([0.0, 1.5])]), 2, method="max")
        QuantizerParameters(bits=2, signed=False, scale=0.5, zero_point=0, q_min=0, q_max=3, offset=0.0)
        >>> activation_quantizer(build_histogram([torch.tensor([-0.5, 0.0, 0.5, 1.0])]), 2, method="mse").zero_point
        -1
    """
    return activation_quantizers(
        histogram, method=method, zero_points=zero_points, power_of_two=power_of_two, bits=(bits,)
    )[bits]


def _power_of_two(histogram: Histogram, scale: float, grid: IntegerRange) -> float:
    """Return the power of two below or above a scale that has less squared error; of equal ones the lower."""
    lower = 2.0 ** (frexp(max(scale, float(np.finfo(np.float32).tiny)))[1] - 1)
    powers = np.array([lower, 2 * lower])
    return float(powers[distortion(histogram, powers, grid=grid).argmin()])


def _parameters(grid: IntegerRange, scale: float, zero_point: int = 0) -> QuantizerParameters:
    # A subnormal scale could round to zero in float32.
    scale = float(np.maximum(np.float32(scale), np.finfo(np.float32).tiny))
    return QuantizerParameters(
        bits=grid.bits, signed=grid.signed, scale=scale, zero_point=zero_point, q_min=grid.q_min, q_max=grid.q_max
    )

"""Joint search of scale and zero point by least squared error, for every bit width in one pass."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from haq.quantization.histogram import Counts, Floats, Histogram
from haq.quantization.range import ALL_BITS, IntegerRange

Shift = Literal["none", "integer", "float"]
"""How a grid may be shifted: not at all, by whole steps, or by any amount."""

# Candidate scales, relative to the range of the data: 48 per octave, over twenty octaves. The 255 steps of 8 bits at
# the smallest scale span 2^-12 of the range.
_CANDIDATE_RATIOS = 2.0 ** (-np.arange(960) / 48)
# Fractions of a step by which a grid may be shifted in addition to whole steps.
_FRACTIONS: dict[Shift, tuple[float, ...]] = {
    "none": (0.0,),
    "integer": (0.0,),
    "float": tuple((np.arange(8) / 8 - 0.5).tolist()),
}
_MIN_GAIN = 10**0.01  # 0.1 dB: least reduction of the error for which a grid gets a zero point


@dataclass(frozen=True, slots=True, kw_only=True)
class AffineFit:
    """Grid of least squared error at one bit width: value = (code - zero_point) * scale.

    Attributes:
        scale: Step size, above 0 and exact in float32.
        zero_point: Code of zero, q_min to q_max; with a float shift any number from q_min - 1/2 to q_max + 1/2.
        error: Mean squared error, clipped values included.
    """

    scale: float
    zero_point: float
    error: float


def affine_fits(
    histogram: Histogram,
    *,
    signed: bool,
    shift: Shift = "integer",
    narrow: bool = False,
    power_of_two: bool = False,
    bits: Iterable[int] = ALL_BITS,
) -> dict[int, AffineFit]:
    """Find the (scale, zero point) of least squared error for every bit width.

    An integer zero point other than 0 is used only if it lowers the error by 0.1 dB or more. So values that are spread
    evenly around zero, or that have no negative part, keep a plain grid, and skewed ones (SiLU, GELU, h-swish, sums of
    residuals) get a zero point.

    Args:
        histogram: Histogram of the values to be quantized.
        signed: Whether the codes are signed.
        shift: How the grid may be shifted.
        narrow: Whether the lowest signed code is left out.
        power_of_two: Whether scales are powers of two.
        bits: Bit widths, each 1 to 8.

    Returns:
        The best grid by bit width. The scale is 1 if all values are zero.

    Raises:
        ValueError: The histogram is empty, or a bit width is outside 1..8.

    Examples:
        >>> import torch
        >>> from haq.quantization.histogram import build_histogram
        >>> skewed = build_histogram([torch.arange(-2, 14) * 0.5])
        >>> fit = affine_fits(skewed, signed=False, bits=(4,))[4]
        >>> round(fit.scale, 2), fit.zero_point
        (0.5, 2.0)
    """
    if not histogram.count:
        raise ValueError("no values were seen; calibrate on at least one batch that is not empty")
    grids = [IntegerRange(width, signed=signed, narrow=narrow) for width in bits]
    span = max(histogram.maximum, 0.0) - min(histogram.minimum, 0.0)
    if not span or not grids:
        return {grid.bits: AffineFit(scale=1.0, zero_point=0.0, error=0.0) for grid in grids}
    levels = max(grid.q_max - grid.q_min for grid in grids)
    scales = _powers(span) if power_of_two else span * _CANDIDATE_RATIOS
    tables = [_Table.build(histogram, scales, fraction, levels) for fraction in _FRACTIONS[shift]]
    return {grid.bits: _best(tables, grid, shift) for grid in grids}


def _powers(span: float) -> Floats:
    """Return the powers of two over as many octaves as other candidates, from the one above the range of the data."""
    octaves = len(_CANDIDATE_RATIOS) // 48
    powers: Floats = np.exp2(np.ceil(np.log2(span)) - np.arange(octaves + 1))
    return powers


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Table:
    """Mean squared errors of grids with levels at (k - fraction) * scale, k = ..., -1, 0, 1, ..., a row for each scale.

    With the level k = 0 alone, a value x costs (x + fraction * scale)^2. A level above it saves 2 scale (x - t) for
    every x above the threshold t between the two. So the sum of the excess over a threshold, a function of the data
    alone, gives the saving of each further level, and sums over levels give the error of any grid of any bit width.

    Attributes:
        fraction: Shift of the levels, in steps.
        scale: Step sizes, [n].
        alone: Error with the level k = 0 alone, [n].
        above: Saving of the first 0, 1, ... levels above k = 0, [n, levels + 1].
        below: Saving of the first 0, 1, ... levels below k = 0, [n, levels + 1].
    """

    fraction: float
    scale: Floats
    alone: Floats
    above: Floats
    below: Floats

    @staticmethod
    def build(histogram: Histogram, scale: Floats, fraction: float, levels: int) -> "_Table":
        """Compute the table for scales [n] and up to `levels` levels on either side."""
        magnitudes = (histogram.edges[1:] + histogram.edges[:-1]) / 2
        total = magnitudes @ (histogram.positive - histogram.negative)
        energy = magnitudes**2 @ (histogram.positive + histogram.negative)
        moved = fraction * scale
        above, below = (
            _saved(magnitudes, counts, np.multiply.outer(scale, np.arange(levels) + 0.5 + offset))
            * (2 * scale / histogram.count)[:, None]
            for counts, offset in ((histogram.positive, -fraction), (histogram.negative, fraction))
        )
        alone = (energy + 2 * moved * total) / histogram.count + moved**2
        return _Table(fraction=fraction, scale=scale, alone=alone, above=above, below=below)

    def errors(self, levels: int) -> Floats:
        """Return errors [n, levels + 1] with 0, 1, ... of `levels` further levels below k = 0 and the others above."""
        saved = self.above[:, levels::-1] + self.below[:, : levels + 1]
        return np.maximum(self.alone[:, None] - saved, 0.0)


def _saved(magnitudes: Floats, counts: Counts, thresholds: Floats) -> Floats:
    """Sum, over the first 0, 1, ... thresholds [n, levels], the excess of all values over each: [n, levels + 1]."""
    inner = np.cumsum(counts[::-1])[::-1]
    # Between two values the excess is linear in the threshold, so interpolation is exact.
    excess = np.cumsum((magnitudes * counts)[::-1])[::-1] - magnitudes * inner
    nodes, values = np.append(0, magnitudes), np.append(magnitudes @ counts, excess)
    return np.pad(np.cumsum(np.interp(thresholds, nodes, values), axis=1), ((0, 0), (1, 0)))


def _best(tables: list[_Table], grid: IntegerRange, shift: Shift) -> AffineFit:
    errors = np.stack([table.errors(grid.q_max - grid.q_min) for table in tables])
    plain = errors[:, :, -grid.q_min]
    if shift == "none" or (shift == "integer" and plain.min() <= errors.min() * _MIN_GAIN):
        errors[:, :, np.arange(errors.shape[2]) != -grid.q_min] = np.inf
    place, row, below = np.unravel_index(errors.argmin(), errors.shape)
    # A subnormal scale could round to zero in float32.
    scale = np.maximum(np.float32(tables[place].scale[row]), np.finfo(np.float32).tiny)
    return AffineFit(
        scale=float(scale),
        zero_point=float(grid.q_min + below + tables[place].fraction),
        error=float(errors[place, row, below]),
    )

"""Scale and zero point together: the pair of least squared error for every bit width, found in one pass."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from haq.quantization.histogram import Counts, Floats, Histogram
from haq.quantization.range import ALL_BITS, IntegerRange

Shift = Literal["none", "integer", "float"]
"""Where the grid may lie: on zero, moved by whole steps, or anywhere."""

# Candidate scales: the whole range of the data in one step, and 48 to the octave for twenty octaves below it; with
# the 255 steps of 8 bits the last of them spans 2^-12 of the range.
_CANDIDATE_RATIOS = 2.0 ** (-np.arange(960) / 48)
# Parts of a step by which a grid may be moved on top of whole steps.
_FRACTIONS: dict[Shift, tuple[float, ...]] = {
    "none": (0.0,),
    "integer": (0.0,),
    "float": tuple((np.arange(8) / 8 - 0.5).tolist()),
}
_WORTH = 10**0.01  # a zero point has to take a tenth of a decibel off the error


@dataclass(frozen=True, slots=True, kw_only=True)
class AffineFit:
    """The best grid of one bit width: value = (code - zero_point) * scale."""

    scale: float
    """Above 0; a number that float32 holds exactly."""
    zero_point: float
    """A code from q_min to q_max; with a float shift any number from q_min - 1/2 to q_max + 1/2."""
    error: float
    """Mean squared error, clipped values included."""


def affine_fits(
    histogram: Histogram,
    *,
    signed: bool,
    shift: Shift = "integer",
    narrow: bool = False,
    bits: Iterable[int] = ALL_BITS,
) -> dict[int, AffineFit]:
    """The (scale, zero point) of least squared error for every bit width.

    Where a zero point takes less than 0.1 dB off the error there is none: values that are spread evenly around zero,
    or that have no negative part, keep a plain grid, and skewed ones (SiLU, GELU, h-swish, sums of residuals) are
    found by what the zero point is worth to them. Where all values are zero the scale is 1.

    Raises ValueError for a histogram of no values and for bits outside 1..8.

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
    tables = [_Table.build(histogram, span * _CANDIDATE_RATIOS, fraction, levels) for fraction in _FRACTIONS[shift]]
    return {grid.bits: _best(tables, grid, shift) for grid in grids}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Table:
    """Mean squared errors of grids with levels at (k - fraction) * scale, k = ..., -1, 0, 1, ..., one row a scale.

    With the level k = 0 alone a value x costs (x + fraction * scale)^2. Where there is a level above, every x above
    the threshold t between the two saves 2 scale (x - t). So one function of the data, the excess over a threshold,
    gives the worth of each further level, and sums over levels the error of any grid of any bit width.
    """

    fraction: float
    scale: Floats
    """[n]"""
    alone: Floats
    """[n]: the error with the level k = 0 alone."""
    above: Floats
    """[n, levels + 1]: what the first 0, 1, ... levels above save."""
    below: Floats
    """[n, levels + 1]: the same downwards."""

    @staticmethod
    def build(histogram: Histogram, scale: Floats, fraction: float, levels: int) -> "_Table":
        """Errors for scales [n] and up to so many levels on either side."""
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
        """[n, levels + 1]: with 0, 1, ... of so many further levels below k = 0 and the others above."""
        saved = self.above[:, levels::-1] + self.below[:, : levels + 1]
        return np.maximum(self.alone[:, None] - saved, 0.0)


def _saved(magnitudes: Floats, counts: Counts, thresholds: Floats) -> Floats:
    """Sums over the first 0, 1, ... thresholds [n, levels] of the excess of all values over each: [n, levels + 1]."""
    inner = np.cumsum(counts[::-1])[::-1]
    # Between two values the excess falls in a straight line, so that interpolation is exact.
    excess = np.cumsum((magnitudes * counts)[::-1])[::-1] - magnitudes * inner
    nodes, values = np.append(0, magnitudes), np.append(magnitudes @ counts, excess)
    return np.pad(np.cumsum(np.interp(thresholds, nodes, values), axis=1), ((0, 0), (1, 0)))


def _best(tables: list[_Table], grid: IntegerRange, shift: Shift) -> AffineFit:
    errors = np.stack([table.errors(grid.q_max - grid.q_min) for table in tables])
    plain = errors[:, :, -grid.q_min]
    if shift == "none" or (shift == "integer" and plain.min() <= errors.min() * _WORTH):
        errors[:, :, np.arange(errors.shape[2]) != -grid.q_min] = np.inf
    place, row, below = np.unravel_index(errors.argmin(), errors.shape)
    # Levels of subnormal size could round to a scale of zero.
    scale = np.maximum(np.float32(tables[place].scale[row]), np.finfo(np.float32).tiny)
    return AffineFit(
        scale=float(scale),
        zero_point=float(grid.q_min + below + tables[place].fraction),
        error=float(errors[place, row, below]),
    )

"""The distribution of a tensor, gathered batch by batch: all that calibration needs to know of it."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

# A bin holds the float32 values that agree in sign, exponent and the first ten bits of the mantissa: at most 0.1 % wide
# at any magnitude. So no range has to be known or grown, one outlier costs nothing, and batches may come in any order.
_DROPPED_BITS = 13
_BINS_PER_SIGN = 1 << (31 - _DROPPED_BITS)
_FIRST_NON_FINITE = 0x7F800000 >> _DROPPED_BITS


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Histogram:
    """How often each magnitude occurs, apart for positive and negative values; zeros are counted on their own.

    Magnitudes below 2^-136 count as zeros. `minimum` and `maximum` are exact, nan where nothing was seen.
    """

    edges: Floats
    """[bins + 1]: ascending magnitudes between which values are counted."""
    positive: Counts
    """[bins]"""
    negative: Counts
    """[bins]"""
    zeros: int
    minimum: float
    maximum: float

    @property
    def count(self) -> int:
        """Values seen, zeros included."""
        return self.zeros + int(self.positive.sum() + self.negative.sum())

    @property
    def signed(self) -> bool:
        """Whether any negative value was seen."""
        return self.minimum < 0

    def magnitudes(self, *, signed: bool) -> Counts:
        """Counts [bins] of |x| over both signs, or of the positive values alone."""
        return self.positive + self.negative if signed else self.positive

    def peak(self, *, signed: bool) -> float:
        """The largest |x|, or the largest positive x (0 where there is none)."""
        return max(self.maximum, -self.minimum if signed else 0.0, 0.0)


class HistogramBuilder:
    """Adds up batches of one tensor.

    >>> builder = HistogramBuilder()
    >>> builder.update(torch.tensor([-1.0, 0.0, 3.0]))
    >>> builder.update(torch.tensor([2.0]))
    >>> histogram = builder.build()
    >>> histogram.count, histogram.zeros, histogram.minimum, histogram.maximum, histogram.signed
    (4, 1, -1.0, 3.0, True)
    """

    def __init__(self) -> None:
        self._counts = np.zeros(2 * _BINS_PER_SIGN, dtype=np.int64)
        self._minimum, self._maximum = np.inf, -np.inf

    def update(self, x: Tensor) -> None:
        """Count the values of a tensor of any shape; an empty one changes nothing.

        Raises ValueError, and counts nothing, if a value is NaN or infinite (in float32).
        """
        if not x.numel():
            return
        values = x.detach().to(torch.float32).flatten()
        # The arithmetic shift of the bit pattern keeps the sign: negative values get bins below zero.
        bins = (values.view(torch.int32) >> _DROPPED_BITS) + _BINS_PER_SIGN
        batch = torch.bincount(bins, minlength=2 * _BINS_PER_SIGN).numpy(force=True)
        _require_finite(batch)
        # Only bins that occur are touched: most pages of the counts never become resident.
        seen = batch.nonzero()
        self._counts[seen] += batch[seen]
        low, high = torch.aminmax(values)
        self._minimum, self._maximum = min(self._minimum, low.item()), max(self._maximum, high.item())

    def build(self) -> Histogram:
        """What was seen so far."""
        negative, positive = self._counts.reshape(2, _BINS_PER_SIGN)
        occupied = np.flatnonzero(negative[1:] + positive[1:]) + 1
        first, last = (occupied[0], occupied[-1] + 1) if occupied.size else (1, 1)
        patterns = np.arange(first, last + 1, dtype=np.int32) << _DROPPED_BITS
        edges = patterns.view(np.float32).astype(np.float64)
        seen = self._minimum <= self._maximum
        peak = max(self._maximum, -self._minimum)
        return Histogram(
            edges=np.minimum(edges, peak) if occupied.size else edges,
            positive=positive[first:last].copy(),
            negative=negative[first:last].copy(),
            zeros=int(negative[0] + positive[0]),
            minimum=self._minimum if seen else np.nan,
            maximum=self._maximum if seen else np.nan,
        )


def build_histogram(batches: Iterable[Tensor]) -> Histogram:
    """The histogram of several tensors together.

    >>> build_histogram([torch.ones(3), torch.zeros(2, 2)]).count
    7
    """
    builder = HistogramBuilder()
    for batch in batches:
        builder.update(batch)
    return builder.build()


def _require_finite(batch: Counts) -> None:
    signs = batch.reshape(2, _BINS_PER_SIGN)
    bad = int(signs[:, _FIRST_NON_FINITE:].sum())
    if bad:
        raise ValueError(f"{bad} of {int(batch.sum())} values are NaN or infinite; calibration needs finite values")

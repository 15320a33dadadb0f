"""Histograms of tensor values, accumulated batch by batch, from which quantizers are calibrated."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Counts = NDArray[np.int64]
"""Array of counts, int64."""
Floats = NDArray[np.float64]
"""Array of numbers, float64."""

# A bin holds the float32 values that agree in sign, exponent and the first ten bits of the mantissa: at most 0.1 % wide
# at any magnitude. So no range has to be chosen in advance, outliers do not widen bins, and batches may come in any
# order.
_DROPPED_BITS = 13
_BINS_PER_SIGN = 1 << (31 - _DROPPED_BITS)
_VALUES_AT_ONCE = 1 << 20  # as many as fit into the caches of a processor
_FIRST_NON_FINITE = 0x7F800000 >> _DROPPED_BITS


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Histogram:
    """Counts of values by magnitude, separately for positive and negative ones.

    Magnitudes below 2^-136 count as zeros.

    Attributes:
        edges: Ascending magnitudes that bound the bins, [bins + 1].
        positive: Number of positive values in each bin, [bins].
        negative: Number of negative values in each bin, [bins].
        zeros: Number of zeros.
        minimum: Smallest value, exact; nan if there are no values.
        maximum: Largest value, exact; nan if there are no values.
    """

    edges: Floats
    positive: Counts
    negative: Counts
    zeros: int
    minimum: float
    maximum: float

    @property
    def count(self) -> int:
        """Number of values, zeros included."""
        return self.zeros + int(self.positive.sum() + self.negative.sum())

    @property
    def signed(self) -> bool:
        """Whether there is a negative value."""
        return self.minimum < 0

    def magnitudes(self, *, signed: bool) -> Counts:
        """Return the counts of magnitudes.

        Args:
            signed: Whether negative values are included.

        Returns:
            Counts [bins] of |x| for all values, or for the positive ones alone.
        """
        return self.positive + self.negative if signed else self.positive

    def peak(self, *, signed: bool) -> float:
        """Return the largest magnitude.

        Args:
            signed: Whether negative values are included.

        Returns:
            The largest |x|, or the largest positive x; 0 if there is none.
        """
        return max(self.maximum, -self.minimum if signed else 0.0, 0.0)


class HistogramBuilder:
    """Accumulator of the histogram of one tensor over several batches.

    Examples:
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
        """Add the values of a batch.

        Args:
            x: Tensor of any shape; it may be empty.

        Raises:
            ValueError: A value is NaN or infinite in float32; the histogram is then unchanged.
        """
        if not x.numel():
            return
        values = _in_memory_order(x.detach().to(torch.float32))
        batch = _counts(values).numpy(force=True)
        _require_finite(batch)
        # Only occupied bins are written, so most memory pages of the counts stay unallocated.
        seen = batch.nonzero()
        self._counts[seen] += batch[seen]
        low, high = torch.aminmax(values)
        self._minimum, self._maximum = min(self._minimum, low.item()), max(self._maximum, high.item())

    def build(self) -> Histogram:
        """Return the histogram of all values added so far."""
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
    """Return the histogram of several tensors together.

    Args:
        batches: Tensors of any shape.

    Returns:
        The histogram of all their values.

    Raises:
        ValueError: A value is NaN or infinite in float32.

    Examples:
        >>> build_histogram([torch.ones(3), torch.zeros(2, 2)]).count
        7
    """
    builder = HistogramBuilder()
    for batch in batches:
        builder.update(batch)
    return builder.build()


def channel_histograms(x: Tensor, axis: int | None) -> list[Histogram]:
    """Return the histogram of each channel of a tensor.

    Args:
        x: Tensor of any shape.
        axis: Axis of the channels; None for one histogram of all values.

    Returns:
        The histograms, [channels].

    Raises:
        ValueError: A value is NaN or infinite in float32.

    Examples:
        >>> [each.count for each in channel_histograms(torch.ones(3, 2), 1)]
        [3, 3]
    """
    return [build_histogram([channel]) for channel in ([x] if axis is None else x.movedim(axis, 0))]


def _in_memory_order(x: Tensor) -> Tensor:
    """Return all values [n], those of channels-last images without a copy."""
    return (x.movedim(1, -1) if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) else x).flatten()


def _counts(values: Tensor) -> Tensor:
    """Count values [n] by bin, int64 [2 * bins of a sign]."""
    counts = torch.zeros(2 * _BINS_PER_SIGN, dtype=torch.int64, device=values.device)
    for some in torch.split(values, _VALUES_AT_ONCE):
        # The arithmetic shift of the bit pattern keeps the sign: negative values get bins below zero.
        bins = (some.view(torch.int32) >> _DROPPED_BITS).add_(_BINS_PER_SIGN)
        counts += torch.bincount(bins, minlength=len(counts))
    return counts


def _require_finite(batch: Counts) -> None:
    signs = batch.reshape(2, _BINS_PER_SIGN)
    bad = int(signs[:, _FIRST_NON_FINITE:].sum())
    if bad:
        raise ValueError(f"{bad} of {int(batch.sum())} values are NaN or infinite; calibration needs finite values")

"""Calibration: the clip of each bit width from a histogram, by divergence, squared error, percentile or maximum."""

from collections.abc import Callable, Iterable, Mapping
from typing import get_args

import numpy as np
from scipy.special import entr

from haq.quantization.histogram import Counts, Floats, Histogram
from haq.quantization.range import ALL_BITS, IntegerRange
from haq.settings import CalibrationMethod

CALIBRATION_METHODS: tuple[CalibrationMethod, ...] = get_args(CalibrationMethod)
MethodChoice = CalibrationMethod | Mapping[int, CalibrationMethod]
"""One method for all bit widths, or one for each."""

# Candidate clips, relative to the peak: 24 per octave, over twelve octaves.
_CANDIDATE_RATIOS = 2.0 ** (-np.arange(288) / 24)
_LINEAR_BINS = 2048  # as in Migacz, "8-bit inference with TensorRT", GTC 2017


def clips(
    histogram: Histogram, *, method: MethodChoice, signed: bool, narrow: bool = False, bits: Iterable[int] = ALL_BITS
) -> dict[int, float]:
    """Calibrate the clip of every bit width; scale = clip / IntegerRange(bits, signed, narrow).steps.

    Args:
        histogram: Histogram of the values to be quantized.
        method: Calibration method, or one for each bit width.
        signed: Whether the codes are signed.
        narrow: Whether the lowest signed code is left out.
        bits: Bit widths, each 1 to 8.

    Returns:
        The clip by bit width. Every clip is 1 if there is nothing to represent: only zeros, or no positive value for an
        unsigned range.

    Raises:
        ValueError: The histogram is empty, a bit width is outside 1..8, or the method is unknown.

    Examples:
        >>> import torch
        >>> from haq.quantization.histogram import build_histogram
        >>> clips(build_histogram([torch.tensor([0.0, 6.0])]), method="max", signed=False, bits=(2, 8))
        {2: 6.0, 8: 6.0}
    """
    if not histogram.count:
        raise ValueError("no values were seen; calibrate on at least one batch that is not empty")
    chosen = {width: method_at(method, width) for width in bits}
    if not histogram.peak(signed=signed):
        return dict.fromkeys(chosen, 1.0)
    return {
        width: _METHODS[name](histogram, IntegerRange(width, signed=signed, narrow=narrow))
        for width, name in chosen.items()
    }


def method_at(method: MethodChoice, bits: int) -> CalibrationMethod:
    """Return the calibration method of a bit width.

    Args:
        method: Calibration method, or one for each bit width.
        bits: Bit width.

    Returns:
        The name of the method.

    Raises:
        ValueError: The method is unknown.

    Examples:
        >>> method_at({2: "mse", 8: "max"}, 8)
        'max'
    """
    name = method if isinstance(method, str) else method[bits]
    if name not in CALIBRATION_METHODS:
        raise ValueError(f"unknown calibration method {name!r}; known are {', '.join(CALIBRATION_METHODS)}")
    return name


def distortion(histogram: Histogram, scale: Floats, *, grid: IntegerRange, zero_point: int = 0) -> Floats:
    """Compute the mean squared quantization error for several scales, clipped values included.

    A magnitude x is rounded to k steps if it exceeds k thresholds (j - 1/2) scale, and k^2 is the sum of the first k
    odd numbers. So the error is E[x^2] - 2 s sum_k S(t_k) + s^2 sum_k (2 k - 1) N(t_k), where N and S are the share and
    the sum of the values above a threshold. Two prefix sums serve every scale and bit width.

    Args:
        histogram: Histogram of the values.
        scale: Step sizes, [n].
        grid: Range of the codes.
        zero_point: Code of zero.

    Returns:
        Mean squared errors, [n].
    """
    sides = ((histogram.positive, grid.q_max - zero_point), (histogram.negative, zero_point - grid.q_min))
    positive, negative = (_side_distortion(histogram.edges, counts, scale, levels) for counts, levels in sides)
    return np.maximum(positive + negative, 0.0) / histogram.count


def _side_distortion(edges: Floats, counts: Counts, scale: Floats, levels: int) -> Floats:
    centres = (edges[1:] + edges[:-1]) / 2
    energy = float(counts @ centres**2)
    level = np.arange(1, levels + 1)
    thresholds = np.multiply.outer(scale, level - 0.5)
    above = np.interp(thresholds, edges, _suffix_sums(counts))
    sum_above = np.interp(thresholds, edges, _suffix_sums(counts * centres))
    return np.asarray(energy - 2 * scale * sum_above.sum(axis=1) + scale**2 * (above @ (2 * level - 1)))


def _suffix_sums(values: Floats | Counts) -> Floats:
    """Return the sum from each edge to the end: [n] -> [n + 1]."""
    return np.append(np.cumsum(values[::-1])[::-1], 0).astype(np.float64)


def _max_clip(histogram: Histogram, grid: IntegerRange) -> float:
    return histogram.peak(signed=grid.signed)


def _mse_clip(histogram: Histogram, grid: IntegerRange) -> float:
    candidates = _max_clip(histogram, grid) * _CANDIDATE_RATIOS
    return float(candidates[distortion(histogram, candidates / grid.steps, grid=grid).argmin()])


def _percentile_clip(histogram: Histogram, grid: IntegerRange) -> float:
    """Return the clip above which one in n^2 of the nonzero values lies; n levels lie from zero to the clip.

    The squared rounding error falls with n^2 too, so the share fits every width; 8 signed bits keep 99.994 %.
    """
    cumulative = np.append(0, np.cumsum(histogram.magnitudes(signed=grid.signed)))
    share = 1 - (grid.steps + 1) ** -2
    return float(np.interp(share * cumulative[-1], cumulative, histogram.edges))


def _kl_clip(histogram: Histogram, grid: IntegerRange) -> float:
    """Return the clip of least divergence between the cumulative distributions of the data and of the quantized data.

    At every threshold each distribution is a share below and a share above. The Jensen-Shannon divergence of the two
    pairs (the mean Kullback-Leibler divergence to their average, which stays finite) is integrated over all thresholds.
    HAQ's published code compares cumulative distributions as well; densities cannot be compared, since quantized values
    are points.
    """
    cumulative = np.append(0, np.cumsum(histogram.magnitudes(signed=grid.signed))) + histogram.zeros
    # A side without values counts as half a value, so that logarithms stay finite.
    share = np.clip(cumulative, 0.5, cumulative[-1] - 0.5) / cumulative[-1]
    candidates = _max_clip(histogram, grid) * _CANDIDATE_RATIOS
    inside = _divergence_inside(histogram.edges, share, candidates, grid.steps)
    return float(candidates[(inside + _divergence_beyond(histogram.edges, share, candidates)).argmin()])


def _divergence_inside(edges: Floats, share: Floats, candidates: Floats, steps: int) -> Floats:
    """Integrate the divergence from zero to each candidate clip, [n].

    Between two levels, the cumulative distribution of the quantized data is the share of the data that rounds down.
    """
    # Cubed nodes are dense near zero, where nearly all values lie if an outlier sets the clip.
    count = max(128, 8 * steps)
    nodes = ((np.arange(count) + 0.5) / count) ** 3
    widths = np.diff((np.arange(count + 1) / count) ** 3)
    data = np.interp(np.multiply.outer(candidates, nodes), edges, share)
    rounded = np.interp(np.multiply.outer(candidates, (np.arange(steps) + 0.5) / steps), edges, share)
    below = (nodes * steps).astype(np.int64)
    return np.asarray(_divergence(data, rounded[:, below]) @ widths * candidates)


def _divergence_beyond(edges: Floats, share: Floats, candidates: Floats) -> Floats:
    """Integrate the divergence from each candidate clip to the largest value, [n]; no quantized value lies there."""
    middle = (share[1:] + share[:-1]) / 2
    beyond = _suffix_sums(_divergence(middle, np.ones(1)) * np.diff(edges))
    return np.asarray(np.interp(candidates, edges, beyond))


def _divergence(p: Floats, q: Floats) -> Floats:
    """Compute the Jensen-Shannon divergence (nats) of (p, 1 - p) and (q, 1 - q).

    It is the entropy of the mean less the mean entropy.
    """
    return _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2


def _entropy(p: Floats) -> Floats:
    return np.asarray(entr(p) + entr(1 - p))


def _tensorrt_clip(histogram: Histogram, grid: IntegerRange) -> float:
    """Return the clip of least divergence KL(P || Q) of densities (Migacz, "8-bit inference with TensorRT", GTC 2017).

    P is the histogram of nonzero magnitudes in 2048 equal bins up to the clip; values beyond it are added to the last
    bin. Q spreads the mass of each level of the grid evenly over those of its bins that are not empty.
    """
    peak = _max_clip(histogram, grid)
    bins = _linear_bins(histogram, peak, grid)
    levels = grid.steps + 1
    ends = np.unique(np.linspace(levels, _LINEAR_BINS, 256).round().astype(np.int64))
    divergence = [_regrouped_divergence(bins, int(end), levels) for end in ends]
    return float(peak * ends[np.argmin(divergence)] / _LINEAR_BINS)


def _linear_bins(histogram: Histogram, peak: float, grid: IntegerRange) -> Floats:
    """Return counts [2048] over equal parts of (0, peak]."""
    cumulative = np.append(0, np.cumsum(histogram.magnitudes(signed=grid.signed)))
    return np.diff(np.interp(np.linspace(0, peak, _LINEAR_BINS + 1), histogram.edges, cumulative))


def _regrouped_divergence(bins: Floats, end: int, levels: int) -> float:
    inside, occupied = bins[:end], bins[:end] > 0
    if not occupied.any():
        return np.inf
    starts = np.arange(levels) * end // levels
    mass, places = np.add.reduceat(inside, starts), np.add.reduceat(occupied.astype(np.float64), starts)
    share = np.divide(mass, places, out=np.zeros(levels), where=places > 0)
    q = np.where(occupied, np.repeat(share, np.diff(starts, append=end)), 0) / inside.sum()
    p = inside.copy()
    p[-1] += bins[end:].sum()
    p /= p.sum()
    # The values beyond the clip may be added to an empty bin, where Q is 0: the divergence is then infinite.
    support = p > 0
    with np.errstate(divide="ignore"):
        return float(np.sum(p[support] * np.log(p[support] / q[support])))


_METHODS: dict[CalibrationMethod, Callable[[Histogram, IntegerRange], float]] = {
    "kl": _kl_clip,
    "kl-tensorrt": _tensorrt_clip,
    "mse": _mse_clip,
    "percentile": _percentile_clip,
    "max": _max_clip,
}

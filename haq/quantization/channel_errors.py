"""Clips of least squared error for all channels of a layer's weights at once.

Scaled to its largest weight, every channel has the same bins and the same candidates. So the errors of all channels,
candidates and bit widths are one matrix product: counts [channels, bins] times errors [bins, bits * candidates].
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from haq.quantization.range import IntegerRange, weight_range

# Candidate clips of a channel, relative to its largest weight: 24 per octave, over five octaves.
_CANDIDATE_RATIOS = 2.0 ** (-torch.arange(120, dtype=torch.float64) / 24)
_WEIGHT_BINS = 4095  # odd, so that zero is one of them
_CHANNELS_AT_ONCE = 512  # bounds the memory of one step: 512 channels of 4095 float32 bins are 8 MiB


def least_error_clips(rows: Tensor, peak: Tensor, bits: Sequence[int]) -> dict[int, Tensor]:
    """Find the candidate clip of least squared error for each channel.

    Args:
        rows: Weights, [channels, weights].
        peak: Largest magnitude of each channel, [channels].
        bits: Bit widths, each 1 to 8; the range of the codes is that of `weight_range`.

    Returns:
        Clips by bit width, float32 [channels].
    """
    if not bits:
        return {}
    ratios = _CANDIDATE_RATIOS.to(rows.device)
    table = torch.cat([_bin_errors(ratios, weight_range(width)) for width in bits], dim=1)
    chunks = zip(torch.split(rows, _CHANNELS_AT_ONCE), torch.split(peak, _CHANNELS_AT_ONCE), strict=True)
    errors = torch.cat([_bin_counts(*chunk) @ table for chunk in chunks])
    best = errors.reshape(len(rows), len(bits), -1).argmin(dim=2)
    return {width: peak * ratios[best[:, place]].to(torch.float32) for place, width in enumerate(bits)}


def _bin_errors(ratios: Tensor, grid: IntegerRange) -> Tensor:
    """Compute the squared error (float32 [bins, candidates]) of values spread evenly over -1..1 under each clip."""
    value = torch.linspace(-1, 1, _WEIGHT_BINS, dtype=torch.float64, device=ratios.device)[:, None]
    scale = ratios / grid.steps
    return ((value / scale).round().clamp(grid.q_min, grid.q_max) * scale - value).square().to(torch.float32)


def _bin_counts(rows: Tensor, peak: Tensor) -> Tensor:
    """Count weights [channels, bins] in bins spread evenly from minus to plus the channel's largest magnitude."""
    half = _WEIGHT_BINS // 2
    bins = (rows / above_zero(peak)[:, None] * half).round().to(torch.int64) + half
    bins += torch.arange(len(rows), device=rows.device)[:, None] * _WEIGHT_BINS
    counts = torch.bincount(bins.flatten(), minlength=len(rows) * _WEIGHT_BINS)
    return counts.reshape(len(rows), _WEIGHT_BINS).to(torch.float32)


def above_zero(x: Tensor) -> Tensor:
    """Replace numbers that are not above 0 by 1, so that one can divide by them.

    Args:
        x: Numbers of any shape.

    Returns:
        The numbers, in the shape of x.
    """
    return torch.where(x > 0, x, 1.0)

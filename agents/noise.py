"""Exploration noise that keeps actions in [0, 1]."""

import math

import torch
from scipy.special import ndtr, ndtri
from torch import Generator


def decayed_sigma(sigma: float, decay: float, episodes: int) -> float:
    """Compute the width of the noise after a number of episodes: sigma * decay**episodes.

    Args:
        sigma: Initial width.
        decay: Factor per episode.
        episodes: Number of episodes.

    Returns:
        The width.

    Example:
        >>> decayed_sigma(0.5, 0.5, 2)
        0.125
    """
    return sigma * decay**episodes


def truncated_normal(mean: float, sigma: float, generator: Generator) -> float:
    """Draw from the normal distribution around `mean`, truncated to [0, 1].

    Applies the quantile function to a uniform number between the distribution function at 0 and at 1, in double
    precision, with exactly one draw of the generator for all parameters.

    Args:
        mean: Mean of the untruncated distribution, in [0, 1].
        sigma: Its standard deviation, at least 0.
        generator: Source of the random number.

    Returns:
        Number in [0, 1].

    Raises:
        ValueError: A parameter is out of range.

    Example:
        >>> truncated_normal(0.25, 0.0, torch.Generator())
        0.25
    """
    if not (0 <= mean <= 1 and 0 <= sigma < math.inf):
        raise ValueError(f"mean must be in [0, 1] and sigma at least 0, got {mean} and {sigma}")
    uniform = torch.rand((), generator=generator, dtype=torch.float64)
    # Below this width the quantile's argument would overflow, and the noise is negligible.
    if sigma < 1e-12:
        return mean
    # For single numbers SciPy's functions take a small part of the time of torch's.
    low, high = ndtr(-mean / sigma), ndtr((1 - mean) / sigma)
    quantile = ndtri(low + (high - low) * uniform.item())
    return min(max(mean + sigma * float(quantile), 0.0), 1.0)

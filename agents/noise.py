"""Exploration: noise around an action that can never leave [0, 1]."""

import math

import torch
from torch import Generator


def decayed_sigma(sigma: float, decay: float, episodes: int) -> float:
    """Width of the noise after a number of episodes: sigma * decay**episodes.

    >>> decayed_sigma(0.5, 0.5, 2)
    0.125
    """
    return sigma * decay**episodes


def truncated_normal(mean: float, sigma: float, generator: Generator) -> float:
    """One draw from the normal distribution around `mean`, conditioned on [0, 1].

    The quantile function at a uniform draw between the distribution's values at 0 and 1, in double precision: one draw
    of the generator each, whatever the parameters. `mean` must be in [0, 1] and `sigma` at least 0; ValueError
    otherwise.

    >>> truncated_normal(0.25, 0.0, torch.Generator())
    0.25
    """
    if not (0 <= mean <= 1 and 0 <= sigma < math.inf):
        raise ValueError(f"mean must be in [0, 1] and sigma at least 0, got {mean} and {sigma}")
    uniform = torch.rand((), generator=generator, dtype=torch.float64)
    # Below this width the quantile's argument would overflow, and nothing of the noise would be seen in the action.
    if sigma < 1e-12:
        return mean
    low, high = torch.special.ndtr(torch.tensor([-mean / sigma, (1 - mean) / sigma], dtype=torch.float64))
    quantile = torch.special.ndtri(low + (high - low) * uniform)
    return min(max(mean + sigma * float(quantile), 0.0), 1.0)

"""Acquisition function of the model-based search."""

import numpy as np
from scipy.special import log_ndtr, ndtr

from agents.base import FloatArray


def log_expected_improvement(mean: FloatArray, std: FloatArray, best: float) -> FloatArray:
    """Compute the log expected improvement, log E max(best - x, 0) for normal x (Jones, Schonlau and Welch 1998).

    With u = (best - mean) / std it is log std + log(u Phi(u) + phi(u)); far below best the tail is expanded as
    phi(u) / u**2.

    Args:
        mean: Predicted means, lower is better, [policy].
        std: Predicted standard deviations, [policy].
        best: Best value so far.

    Returns:
        Logarithms [policy].

    Example:
        >>> float(log_expected_improvement(np.array([0.0]), np.array([1.0]), 0.0).round(4)[0])  # log(1 / sqrt(2 pi))
        -0.9189
    """
    u = (best - mean) / std
    near = np.maximum(u, -6.0)
    density = np.exp(-0.5 * near**2) / np.sqrt(2 * np.pi)
    body = np.log(np.maximum(near * ndtr(near) + density, 1e-300))
    tail = log_ndtr(np.minimum(u, -6.0)) - np.log(-np.minimum(u, -6.0))
    return np.asarray(np.log(std) + np.where(u > -6, body, tail))

"""Terms of the additive loss model, and the prior covariance of its residual.

A term is the loss from quantizing one column (0 weights, 1 activations) of one decision to one width, everything else
left in float. theta holds the logarithms of all terms and is indexed by [decision, column, width]; the last index is
bits - 1. The loss of a policy is the sum of its terms, two for each decision, times the exponential of a residual: a
Gaussian process over whole policies. `agents.reward_model` fits both.
"""

import numpy as np

from agents.base import FloatArray, IntArray

LOG_4 = float(np.log(4))
LENGTH_SCALES = (2.0, 6.0)
"""Length scales of the two components of the residual, in bits: Euclidean distances between whole policies."""


def term_indices(bits: IntArray, widths: int) -> IntArray:
    """Return the positions in the flattened theta of the terms whose sum is the loss of each policy.

    Args:
        bits: Policies [policy, decision, 2].
        widths: Number of widths.

    Returns:
        Indices into `theta.ravel()`, [policy, decision * 2].

    Example:
        >>> term_indices(np.array([[[1, 8], [2, 2]]]), 8)
        array([[ 0, 15, 17, 25]])
    """
    flat = bits.reshape(len(bits), -1)
    return np.asarray(flat - 1 + widths * np.arange(flat.shape[1]))


def log_sum_exp(theta: FloatArray, terms: IntArray) -> tuple[FloatArray, FloatArray]:
    """Compute the logarithm of the summed losses of each policy.

    Args:
        theta: Logarithms of all terms, flattened.
        terms: Indices into `theta` of the terms of each policy, [policy, term of policy].

    Returns:
        Log sums [policy], and every term's share of the sum, [policy, term of policy].

    Example:
        >>> value, shares = log_sum_exp(np.log([1.0, 3.0]), np.array([[0, 1]]))
        >>> float(np.exp(value[0])), shares.round(2).tolist()
        (4.0, [[0.25, 0.75]])
    """
    values = theta[terms]
    top = values.max(axis=1, keepdims=True)
    parts = np.exp(values - top)
    total = parts.sum(axis=1, keepdims=True)
    return np.asarray((top + np.log(total))[:, 0]), parts / total


def pair_losses(theta: FloatArray) -> FloatArray:
    """Compute the losses of all pairs of bits, relative to the largest term, which avoids overflow.

    Args:
        theta: Logarithms of the terms, [..., decision, 2, width].

    Returns:
        Losses [..., decision, w_bits, a_bits].
    """
    losses = np.exp(theta - theta.max(axis=(-3, -2, -1), keepdims=True))
    return np.asarray(losses[..., 0, :, None] + losses[..., 1, None, :])


def theta_from_prior(prior: FloatArray) -> FloatArray:
    """Estimate theta from the expected losses of pairs of bits.

    The loss of a column alone is the smallest one over the widths of the other column. Losses that are zero, negative
    or not finite count as missing. A missing loss is that of the next narrower width divided by 4**1.5 = 8, or the
    smallest valid loss of the column if that is larger; for comparison, one more bit divides the power of a quantizer's
    error by 4. At 1 bit a missing loss is the smallest valid one, and without any valid loss all are 1. Widths beyond
    an axis of the prior have the loss of its last width.

    Args:
        prior: Expected losses [decision, w_bits, a_bits].

    Returns:
        Theta [decision, 2, width].
    """
    widths = max(prior.shape[1:])
    theta = np.zeros((len(prior), 2, widths))
    for column in (0, 1):
        alone = np.nan_to_num(prior, nan=np.inf, posinf=np.inf).min(axis=2 - column)
        valid = np.isfinite(alone) & (alone > 0)
        floor = alone[valid].min() if valid.any() else 1.0
        logs = np.log(np.where(valid, alone, floor))
        theta[:, column, : logs.shape[1]] = logs
        theta[:, column, logs.shape[1] :] = logs[:, -1:]
        for width in range(1, widths):
            missing = ~valid[:, width] if width < valid.shape[1] else np.ones(len(prior), dtype=bool)
            extrapolated = theta[:, column, width - 1] - 1.5 * LOG_4
            theta[:, column, width] = np.maximum(theta[:, column, width], np.where(missing, extrapolated, -np.inf))
    return theta


def residual_covariances(left: IntArray, right: IntArray) -> FloatArray:
    """Compute the prior covariances of the residual, which is similar for policies that differ in few bits.

    One squared-exponential kernel of unit variance for each of `LENGTH_SCALES`.

    Args:
        left: Policies [left, decision, 2].
        right: Policies [right, decision, 2].

    Returns:
        Array [component, left, right].
    """
    x, y = (bits.reshape(len(bits), -1).astype(np.float64) for bits in (left, right))
    squared = np.maximum((x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * x @ y.T, 0)
    return np.stack([np.exp(-squared / (2 * length**2)) for length in LENGTH_SCALES])

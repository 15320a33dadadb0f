"""Noise that adds up: the loss of a policy as a sum of terms, one for every decision, column and width.

A term is an index into vectors theta [decision * 2 * width]: the noise of a decision's weights (column 0) or
activations (column 1) at a width, as the logarithm of the loss that it causes alone.
"""

import numpy as np
from numpy.typing import NDArray

from agents.base import IntArray

FloatArray = NDArray[np.float64]
LOG_4 = float(np.log(4))
LENGTH_SCALES = (2.0, 6.0)
"""Distances in bits, over all decisions, at which the two parts of the residual forget."""


def term_indices(bits: IntArray, widths: int) -> IntArray:
    """The terms [policy, decision * 2] that add up in policies [policy, decision, 2].

    >>> term_indices(np.array([[[1, 8], [2, 2]]]), 8)
    array([[ 0, 15, 17, 25]])
    """
    flat = bits.reshape(len(bits), -1)
    return np.asarray(flat - 1 + widths * np.arange(flat.shape[1]))


def log_sum_exp(theta: FloatArray, terms: IntArray) -> tuple[FloatArray, FloatArray]:
    """log sum exp of the terms of each policy [policy], and every term's share of the sum [policy, term of policy].

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
    """Losses [..., decision, w_bits, a_bits] of all pairs, from theta [..., decision, 2, width].

    In parts of the largest term, so that nothing overflows.
    """
    noise = np.exp(theta - theta.max(axis=(-3, -2, -1), keepdims=True))
    return np.asarray(noise[..., 0, :, None] + noise[..., 1, None, :])


def theta_from_prior(prior: FloatArray) -> FloatArray:
    """Theta [decision, 2, width] from the expected losses of pairs [decision, w_bits, a_bits].

    A column's own part is what is left at the best width of the other column. Losses that are zero, negative or not
    finite are no knowledge: there noise falls from width to width by 4**1.5, but not below the least that is known.
    """
    widths = max(prior.shape[1:])
    theta = np.zeros((len(prior), 2, widths))
    for column in (0, 1):
        alone = np.nan_to_num(prior, nan=np.inf, posinf=np.inf).min(axis=2 - column)
        known = np.isfinite(alone) & (alone > 0)
        floor = alone[known].min() if known.any() else 1.0
        logs = np.log(np.where(known, alone, floor))
        theta[:, column, : logs.shape[1]] = logs
        theta[:, column, logs.shape[1] :] = logs[:, -1:]
        for width in range(1, widths):
            guessed = ~known[:, width] if width < known.shape[1] else np.ones(len(prior), dtype=bool)
            least = theta[:, column, width - 1] - 1.5 * LOG_4
            theta[:, column, width] = np.maximum(theta[:, column, width], np.where(guessed, least, -np.inf))
    return theta


def term_covariances(decisions: int, widths: int) -> FloatArray:
    """Covariances of theta [part, term, term] of about unit variance, one for each thing that may be unknown.

    A level and a decay by width for all terms; both of a column; the level of a decision; level and decay of each
    (decision, column); and what is left at each width, where neighbours resemble each other.
    """
    columns = 2 * decisions
    alike, own = np.ones((columns, columns)), np.eye(columns)
    same_column = np.kron(np.ones((decisions, decisions)), np.eye(2))
    same_decision = np.kron(np.eye(decisions), np.ones((2, 2)))
    steps = np.arange(widths) - (widths - 1) / 2
    level, decay = np.ones((widths, widths)), np.outer(steps, steps)
    smooth = np.exp(-0.5 * np.subtract.outer(steps, steps) ** 2)
    parts = [(alike, level), (alike, decay), (same_column, level + 0.05 * decay), (same_decision, level)]
    parts += [(own, level), (own, decay), (own, smooth)]
    return np.stack([np.kron(across, along) for across, along in parts])


def residual_covariances(left: IntArray, right: IntArray) -> FloatArray:
    """Covariances [part, left, right] of what does not add up: policies that differ in few bits share it."""
    x, y = (bits.reshape(len(bits), -1).astype(np.float64) for bits in (left, right))
    squared = np.maximum((x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * x @ y.T, 0)
    return np.stack([np.exp(-squared / (2 * length**2)) for length in LENGTH_SCALES])

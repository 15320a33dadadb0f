"""Measures of how well a score ranks policies: rank correlations with intervals, and the value of the choice."""

from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

DRAWS = 2000
"""Draws of the bootstrap."""
FloatArray = NDArray[np.float64]


def rank_correlations(score: FloatArray, truth: FloatArray) -> FloatArray:
    """Return Spearman's rank correlation of every row [draw, policy]; 0 where all values are equal.

    >>> rank_correlations(np.array([[1.0, 2.0, 4.0]]), np.array([[0.0, 3.0, 5.0]])).tolist()
    [1.0]
    """
    ours, theirs = (rankdata(each, axis=1) for each in (score, truth))
    ours, theirs = (each - each.mean(axis=1, keepdims=True) for each in (ours, theirs))
    scale = np.sqrt((ours**2).sum(axis=1) * (theirs**2).sum(axis=1))
    return np.asarray(np.divide((ours * theirs).sum(axis=1), scale, out=np.zeros(len(scale)), where=scale > 0))


def interval(truth: FloatArray, score: FloatArray, other: FloatArray | None = None) -> tuple[float, float, float]:
    """Return the rank correlation with the truth and its 95 % interval.

    With `other`, return by how much the correlation of `score` exceeds that of `other`. The interval holds percentiles
    of the bootstrap over policies; both scores use the same draws.
    """
    chosen = np.random.default_rng(0).integers(len(truth), size=(DRAWS, len(truth)))
    rows = np.vstack([np.arange(len(truth)), chosen])
    found = rank_correlations(score[rows], truth[rows])
    if other is not None:
        found -= rank_correlations(other[rows], truth[rows])
    low, high = np.percentile(found[1:], (2.5, 97.5))
    return float(found[0]), float(low), float(high)


def reliability(truth: FloatArray) -> float:
    """Return the expected rank correlation of two independent means over seeds (Spearman-Brown).

    Args:
        truth: Values [policy, seed] with at least two seeds.
    """
    seeds = truth.shape[1]
    pairs = [rank_correlations(truth[None, :, a], truth[None, :, b]) for a in range(seeds) for b in range(a)]
    mean = float(np.mean(pairs))
    return float(seeds * mean / (1 + (seeds - 1) * mean))


def expected_choice(score: FloatArray, truth: FloatArray, count: int) -> float:
    """Return the expected truth of the best-scored of `count` policies drawn at random; ties are drawn by lot.

    >>> expected_choice(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, 1.0]), 1)
    0.3333333333333333
    """
    total, order = len(score), np.argsort(-score, kind="stable")
    shared = np.array([truth[score == score[each]].mean() for each in order])
    chances = np.array([comb(total - 1 - place, count - 1) for place in range(total)]) / comb(total, count)
    return float(chances @ shared)

"""From scores, whatever their scale, to logarithms of losses, in which noise adds up."""

import numpy as np

from agents.base import IntArray
from agents.loss_terms import FloatArray
from agents.reward_model import RewardModel

_DISTANCES = 10.0 ** np.arange(-2.0, 1.0, 0.5)
"""Tried distances of the ceiling from the best score, in parts of the median loss."""


def log_losses(scores: FloatArray, ceiling: float) -> FloatArray:
    """log(ceiling - score) of scores below the ceiling.

    >>> log_losses(np.array([-1.0, -np.e]), 0.0).round(6).tolist()
    [0.0, 1.0]
    """
    return np.asarray(np.log(ceiling - scores))


def fit_ceiling(model: RewardModel, bits: IntArray, scores: FloatArray) -> float:
    """The score from which losses are counted.

    Scores that stay below 0 and do not tie, as minus a divergence, lose what they lack to 0. Accuracies on few images
    tie at the best, and may exceed that of the float network: for them the loss starts above the best, where the model
    finds `scores` [policy] of `bits` most probable. Densities are compared by score, hence the Jacobian of the
    logarithm. Of `model` only the fit changes.
    """
    best = float(scores.max())
    different = np.unique(scores)
    if best < 0 and len(different) == len(scores):
        return 0.0
    step = float(np.diff(different).min()) if len(different) > 1 else max(abs(best), 1.0) * 1e-3
    distances = _DISTANCES * (float(np.median(best - scores)) + step)
    ceilings = best + distances[distances >= step / 2]

    def log_density(ceiling: float) -> float:
        targets = log_losses(scores, ceiling)
        model.fit(bits, targets)
        return model.log_marginal_likelihood - float(targets.sum())

    return float(max(ceilings, key=log_density))

"""Transformation of scores of any scale to logarithms of losses, which the additive model describes."""

import numpy as np

from agents.base import FloatArray, IntArray
from agents.reward_model import RewardModel

_DISTANCES = 10.0 ** np.arange(-2.0, 1.0, 0.5)
"""Candidate distances of the ceiling from the best score, relative to the median loss."""


def log_losses(scores: FloatArray, ceiling: float) -> FloatArray:
    """Compute the logarithms of losses: log(ceiling - score).

    Args:
        scores: Scores below the ceiling, [policy].
        ceiling: Score of zero loss.

    Returns:
        Log losses [policy].

    Example:
        >>> log_losses(np.array([-1.0, -np.e]), 0.0).round(6).tolist()
        [0.0, 1.0]
    """
    return np.asarray(np.log(ceiling - scores))


def fit_ceiling(model: RewardModel, bits: IntArray, scores: FloatArray) -> float:
    """Estimate the score of zero loss.

    It is 0 for negative scores without ties, such as a negated divergence. Accuracies on few images tie at the best,
    and may exceed that of the float network: for them the ceiling is above the best score, where the scores are most
    probable under the model. Densities are compared in terms of scores, hence the Jacobian of the logarithm.

    Args:
        model: Model of log losses; its fit is changed.
        bits: Policies [policy, decision, 2].
        scores: Their scores [policy].

    Returns:
        The ceiling.
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

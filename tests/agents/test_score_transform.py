import numpy as np

from agents.loss_terms import log_sum_exp, term_indices
from agents.reward_model import RewardModel
from agents.score_transform import fit_ceiling, log_losses

CENTRE = np.tile(-np.log(4) * np.arange(1.0, 9), (6, 2, 1))
BITS = np.random.default_rng(0).integers(2, 8, (40, 6, 2))
LOSSES = np.exp(log_sum_exp(CENTRE.ravel(), term_indices(BITS, 8))[0])


def test_ceiling_of_negative_divergences_is_zero():
    assert fit_ceiling(RewardModel(CENTRE), BITS, -LOSSES) == 0


def test_ceiling_of_positive_scores_is_above_best():
    scores = 5 - LOSSES
    ceiling = fit_ceiling(RewardModel(CENTRE), BITS, scores)
    assert scores.max() < ceiling < 5 + LOSSES.mean()


def test_ceiling_is_above_tied_best_scores():
    scores = np.minimum(np.round(5 - LOSSES, 2), np.quantile(5 - LOSSES, 0.7).round(2))
    targets = log_losses(scores, fit_ceiling(RewardModel(CENTRE), BITS, scores))
    assert np.isfinite(targets).all()


def test_ceiling_of_equal_or_single_scores_is_finite():
    for scores in (np.array([-1.0]), np.zeros(3), np.full(3, 0.7)):
        ceiling = fit_ceiling(RewardModel(CENTRE), BITS[: len(scores)], scores)
        assert ceiling > scores.max()

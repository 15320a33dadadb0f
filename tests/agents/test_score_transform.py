import numpy as np
import pytest

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


@pytest.mark.parametrize("scores", [[0.7, 0.7, 0.7], [0.7]])
def test_ceiling_of_equal_scores_is_a_step_above_them(scores):
    """A step of 0.001; of the candidates 0.01 to 3.16 steps away, only those from half a step on count."""
    ceiling = fit_ceiling(RewardModel(CENTRE), BITS[: len(scores)], np.array(scores))
    assert min(abs((ceiling - 0.7) / 0.001 - np.array([1.0, 10**0.5]))) < 1e-6


def test_ceiling_of_ties_is_measured_from_the_median_loss():
    scores = np.array([-1.0, -1.0, -1.5, -2.0, -4.0])
    ceiling = fit_ceiling(RewardModel(CENTRE), BITS[:5], scores)
    # The median loss is 0.5 and the least difference of scores 0.5: candidates are 1 times 10**-0.5, 1 and 10**0.5.
    assert min(abs((ceiling + 1.0) - 10 ** np.array([-0.5, 0.0, 0.5]))) < 1e-6


def test_best_score_of_zero_needs_a_ceiling_above_it():
    scores = np.array([0.0, -0.5, -1.0])
    assert fit_ceiling(RewardModel(CENTRE), BITS[:3], scores) > 0

import numpy as np
import pytest

from agents.loss_terms import (
    LOG_4,
    log_sum_exp,
    pair_losses,
    residual_covariances,
    term_indices,
    theta_from_prior,
)


def test_term_indices_by_decision_column_and_width():
    assert term_indices(np.array([[[2, 1], [1, 3]]]), 3).tolist() == [[1, 3, 6, 11]]


def test_pair_losses_add_columns():
    theta = np.log([[[1.0, 4.0], [2.0, 8.0]]])
    np.testing.assert_allclose(8 * pair_losses(theta), [[[3, 9], [6, 12]]])


def test_log_sum_exp_does_not_overflow():
    value, shares = log_sum_exp(np.array([1000.0, 1000.0]), np.array([[0, 1]]))
    assert value[0] == pytest.approx(1000 + np.log(2))
    assert shares.tolist() == [[0.5, 0.5]]


def test_theta_from_additive_prior():
    """Pairs lose w + a; the loss of a column includes the smallest loss of the other one."""
    w, a = np.array([0.4, 0.1]), np.array([0.2, 0.05])
    centre = theta_from_prior(np.broadcast_to(w[:, None] + a, (2, 2, 2)))
    np.testing.assert_allclose(np.exp(centre[0]), [[0.45, 0.15], [0.3, 0.15]])


def test_theta_from_prior_repeats_last_width():
    centre = theta_from_prior(np.array([[[0.5], [0.2]]]))
    np.testing.assert_allclose(np.exp(centre[0]), [[0.5, 0.2], [0.2, 0.2]])


def test_theta_from_prior_keeps_steep_losses():
    """One bit may lose all of the signal, and two bits a hundredth of that."""
    losses = np.array([1.0, 0.01, 0.001])
    centre = theta_from_prior((losses[:, None] + losses)[None])
    np.testing.assert_allclose(np.exp(centre[0]), np.tile(losses + 0.001, (2, 1)))


@pytest.mark.parametrize("nothing", [0.0, -1.0, np.nan, np.inf])
def test_theta_from_prior_extrapolates_missing_losses(nothing):
    prior = np.full((1, 3, 3), 0.1)
    prior[0, 2] = nothing
    centre = theta_from_prior(prior)
    assert np.isfinite(centre).all()
    assert (np.diff(centre, axis=2) >= -1.5 * LOG_4 - 1e-9).all()


def test_residual_covariance_decreases_with_distance():
    bits = np.array([[[2, 2]], [[2, 3]], [[8, 8]]])
    near, far = residual_covariances(bits, bits)
    assert near[0, 0] == far[0, 0] == 1
    assert near[0, 1] == pytest.approx(np.exp(-1 / 8))
    assert near[0, 2] < far[0, 2] < far[0, 1] < 1


def test_missing_losses_are_an_eighth_of_the_next_narrower_width():
    """Three decisions with the same losses under all widths of activations; the smallest valid one is 0.02."""
    prior = np.array([[0.8, np.nan, np.nan], [0.8, 0.2, 0.02], [np.nan, 0.3, 0.02]])[:, :, None]
    losses = np.exp(theta_from_prior(prior))
    np.testing.assert_allclose(losses[0, 0], [0.8, 0.1, 0.02])
    np.testing.assert_allclose(losses[1, 0], [0.8, 0.2, 0.02])
    np.testing.assert_allclose(losses[2, 0], [0.02, 0.3, 0.02])
    np.testing.assert_allclose(losses[:, 1], np.repeat([[0.8], [0.02], [0.02]], 3, axis=1))


def test_without_valid_losses_all_are_one():
    assert theta_from_prior(np.full((2, 3, 2), np.nan)).tolist() == np.zeros((2, 2, 3)).tolist()


def test_residual_covariances_of_different_policies_by_hand():
    left, right = np.array([[[2, 2]], [[5, 2]]]), np.array([[[2, 6]], [[5, 2]], [[2, 2]]])
    near, far = residual_covariances(left, right)
    squared = np.array([[16, 9, 0], [25, 0, 9]])
    np.testing.assert_allclose(near, np.exp(-squared / 8))
    np.testing.assert_allclose(far, np.exp(-squared / 72))

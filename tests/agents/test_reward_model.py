"""Predictions and uncertainty of the reward model on additive losses."""

import io

import numpy as np
import pytest
import torch

from agents.loss_terms import log_sum_exp, term_indices
from agents.reward_model import DEFAULT_SCALES, MEASURED_PRIOR_SCALES, RewardModel, _minus_log_likelihood

DECISIONS, WIDTHS = 8, 8


@pytest.fixture
def theta() -> np.ndarray:
    """True theta: every layer has its own level, and decreases by a factor of about four per bit."""
    rng = np.random.default_rng(3)
    level, decay = rng.normal(0, 1, (DECISIONS, 2, 1)), rng.normal(np.log(4), 0.15, (DECISIONS, 2, 1))
    return level - decay * np.arange(1, WIDTHS + 1)


def nominal() -> np.ndarray:
    return np.tile(-np.log(4) * np.arange(1.0, WIDTHS + 1), (DECISIONS, 2, 1))


def losses(theta: np.ndarray, bits: np.ndarray) -> np.ndarray:
    return log_sum_exp(theta.ravel(), term_indices(bits, WIDTHS))[0]


def policies(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(2, 8, (count, DECISIONS, 2))


def fitted(theta: np.ndarray, count: int) -> RewardModel:
    model, bits = RewardModel(nominal()), policies(count, 1)
    model.fit(bits, losses(theta, bits))
    return model


def test_unfitted_model_predicts_prior_mean():
    bits = policies(5, 0)
    mean, std = RewardModel(nominal()).predict(bits)
    np.testing.assert_allclose(mean, losses(nominal(), bits))
    assert (std > 2).all()


def test_additive_loss_is_learned_from_few_policies(theta):
    test = policies(300, 2)
    truth = losses(theta, test)
    errors = [np.abs(fitted(theta, count).predict(test)[0] - truth).mean() for count in (5, 60)]
    spread = np.abs(truth - truth.mean()).mean()
    assert errors[0] < 0.7 * spread
    assert errors[1] < 0.25 * spread


def test_std_decreases_near_data(theta):
    model = fitted(theta, 30)
    seen, unseen = policies(30, 1), policies(30, 2)
    seen = seen[np.argsort(losses(theta, seen))[:10]]
    assert model.predict(seen)[1].mean() < 0.5 * model.predict(unseen)[1].mean()
    assert (model.predict(unseen)[1] < RewardModel(nominal()).predict(unseen)[1]).all()


def test_std_matches_prediction_errors(theta):
    model, test = fitted(theta, 40), policies(300, 2)
    mean, std = model.predict(test)
    assert 0.3 < np.sqrt((((mean - losses(theta, test)) / std) ** 2).mean()) < 2


def test_predict_mean_equals_mean_of_predict(theta):
    model, test = fitted(theta, 20), policies(10, 2)
    np.testing.assert_allclose(model.predict_mean(test), model.predict(test)[0])


def test_posterior_samples_have_posterior_mean_and_smaller_spread(theta):
    """The mean of many samples is theta; terms that dominate observed losses vary less than in the prior."""
    model = fitted(theta, 60)
    draws = model.sample(np.random.default_rng(0), 400)
    np.testing.assert_allclose(draws.std(axis=0), model.theta_std, rtol=0.25, atol=0.02)
    np.testing.assert_allclose(draws.mean(axis=0), model.theta, atol=0.3)
    prior = RewardModel(nominal())
    assert model.theta_std[:, :, 1].mean() < 0.5 * prior.theta_std[:, :, 1].mean()
    assert prior.sample(np.random.default_rng(0), 5).shape == (5, DECISIONS, 2, WIDTHS)


def test_fitted_scales_increase_marginal_likelihood(theta):
    model, bits = RewardModel(nominal()), policies(60, 1)
    targets = losses(theta, bits)
    model.fit(bits, targets)
    before = model.log_marginal_likelihood
    model.fit_scales()
    model.fit(bits, targets)
    assert model.log_marginal_likelihood > before


def test_marginal_likelihood_of_one_policy():
    """One Gaussian: minus half of the squared distance over the variance, and of the logarithm of the variance."""
    model, bits = RewardModel(nominal()), policies(1, 1)
    (mean,), (std,) = model.predict(bits)
    model.fit(bits, np.array([mean + 3.0]), rounds=1)
    variance = std**2 + DEFAULT_SCALES[-1] ** 2
    assert model.log_marginal_likelihood == pytest.approx(-0.5 * (3.0**2 / variance + np.log(variance)))


def test_gradient_of_likelihood_equals_finite_differences():
    rng = np.random.default_rng(0)
    roots = rng.normal(size=(3, 4, 4))
    parts, extra, targets = roots @ roots.swapaxes(1, 2), 0.5 * np.eye(4), rng.normal(size=4)
    log_scales = np.array([-0.3, 0.2, 0.1])
    covariance = np.tensordot(np.exp(2 * log_scales), parts, 1) + extra
    value, gradient = _minus_log_likelihood(log_scales, parts, extra, targets)
    expected = 0.5 * targets @ np.linalg.solve(covariance, targets) + 0.5 * np.linalg.slogdet(covariance)[1]
    assert value == pytest.approx(expected)
    for place in range(3):
        step = 1e-5 * np.eye(3)[place]
        high, low = (_minus_log_likelihood(log_scales + sign * step, parts, extra, targets)[0] for sign in (1, -1))
        assert gradient[place] == pytest.approx((high - low) / 2e-5, rel=1e-6)


def test_outlier_of_high_loss_hardly_changes_predictions_of_good_policies(theta):
    """The loss of a collapsed network hardly changes predictions of good policies."""
    bits = policies(40, 1)
    targets = losses(theta, bits)
    worst = int(targets.argmax())
    clean, spoilt = RewardModel(nominal()), RewardModel(nominal())
    clean.fit(bits, targets)
    targets[worst] += 2.0
    spoilt.fit(bits, targets)
    good = bits[np.argsort(targets)[:10]]
    assert np.abs(clean.predict_mean(good) - spoilt.predict_mean(good)).max() < 0.2


def test_restored_model_fits_identically(theta):
    model, other = fitted(theta, 20), RewardModel(nominal())
    model.fit_scales()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    bits = policies(25, 4)
    for each in (model, other):
        each.fit(bits, losses(theta, bits))
    np.testing.assert_array_equal(model.predict(policies(9, 5)), other.predict(policies(9, 5)))


def test_measured_prior_has_smaller_std(theta):
    bits = policies(50, 2)
    nominal_std, measured_std = (
        RewardModel(theta, prior_scales=each).predict(bits)[1] for each in (DEFAULT_SCALES, MEASURED_PRIOR_SCALES)
    )
    assert (measured_std < nominal_std).all()

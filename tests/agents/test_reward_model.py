"""Noise that adds up is learned from few policies, and what was not seen is known to be unknown."""

import io

import numpy as np
import pytest
import torch

from agents.loss_terms import log_sum_exp, term_indices
from agents.reward_model import DEFAULT_SCALES, MEASURED_PRIOR_SCALES, RewardModel

DECISIONS, WIDTHS = 8, 8


@pytest.fixture
def theta() -> np.ndarray:
    """True noise: every layer has its own level, and loses it by about, not exactly, four a bit."""
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


def test_before_any_news_the_prior_is_expected():
    bits = policies(5, 0)
    mean, std = RewardModel(nominal()).predict(bits)
    np.testing.assert_allclose(mean, losses(nominal(), bits))
    assert (std > 2).all()


def test_an_additive_loss_is_learned_from_few_policies(theta):
    test = policies(300, 2)
    truth = losses(theta, test)
    errors = [np.abs(fitted(theta, count).predict(test)[0] - truth).mean() for count in (5, 60)]
    spread = np.abs(truth - truth.mean()).mean()
    assert errors[0] < 0.7 * spread
    assert errors[1] < 0.25 * spread


def test_the_uncertainty_shrinks_where_data_are(theta):
    model = fitted(theta, 30)
    seen, unseen = policies(30, 1), policies(30, 2)
    seen = seen[np.argsort(losses(theta, seen))[:10]]
    assert model.predict(seen)[1].mean() < 0.5 * model.predict(unseen)[1].mean()
    assert (model.predict(unseen)[1] < RewardModel(nominal()).predict(unseen)[1]).all()


def test_the_uncertainty_is_about_the_size_of_the_errors(theta):
    model, test = fitted(theta, 40), policies(300, 2)
    mean, std = model.predict(test)
    assert 0.3 < np.sqrt((((mean - losses(theta, test)) / std) ** 2).mean()) < 2


def test_expect_is_the_mean_of_predict(theta):
    model, test = fitted(theta, 20), policies(10, 2)
    np.testing.assert_allclose(model.predict_mean(test), model.predict(test)[0])


def test_draws_spread_as_far_as_is_unknown(theta):
    """The mean of many draws is theta; a term that decided the seen losses varies less than before."""
    model = fitted(theta, 60)
    draws = model.sample(np.random.default_rng(0), 400)
    np.testing.assert_allclose(draws.std(axis=0), model.theta_std, rtol=0.25, atol=0.02)
    np.testing.assert_allclose(draws.mean(axis=0), model.theta, atol=0.3)
    prior = RewardModel(nominal())
    assert model.theta_std[:, :, 1].mean() < 0.5 * prior.theta_std[:, :, 1].mean()
    assert prior.sample(np.random.default_rng(0), 5).shape == (5, DECISIONS, 2, WIDTHS)


def test_learned_scales_make_the_data_more_probable(theta):
    model, bits = RewardModel(nominal()), policies(60, 1)
    targets = losses(theta, bits)
    model.fit(bits, targets)
    before = model.log_marginal_likelihood
    model.fit_scales()
    model.fit(bits, targets)
    assert model.log_marginal_likelihood > before


def test_bad_policies_are_not_worth_exactness(theta):
    """A collapsed network with any loss at all hardly moves what is expected of good policies."""
    bits = policies(40, 1)
    targets = losses(theta, bits)
    worst = int(targets.argmax())
    clean, spoilt = RewardModel(nominal()), RewardModel(nominal())
    clean.fit(bits, targets)
    targets[worst] += 2.0
    spoilt.fit(bits, targets)
    good = bits[np.argsort(targets)[:10]]
    assert np.abs(clean.predict_mean(good) - spoilt.predict_mean(good)).max() < 0.2


def test_a_restored_model_fits_on_identically(theta):
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


def test_a_measured_centre_is_trusted_further(theta):
    bits = policies(50, 2)
    nominal_std, measured_std = (
        RewardModel(theta, prior_scales=each).predict(bits)[1] for each in (DEFAULT_SCALES, MEASURED_PRIOR_SCALES)
    )
    assert (measured_std < nominal_std).all()

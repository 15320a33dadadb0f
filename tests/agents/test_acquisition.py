import numpy as np
import pytest
from scipy.stats import norm

from agents.acquisition import log_expected_improvement


def test_log_expected_improvement_matches_monte_carlo():
    """E max(0.5 - x, 0) over a million draws of the quantiles of N(1, 2)."""
    x = norm.ppf((np.arange(1_000_000) + 0.5) / 1_000_000, 1.0, 2.0)
    expected = np.maximum(0.5 - x, 0).mean()
    assert np.exp(log_expected_improvement(np.array([1.0]), np.array([2.0]), 0.5))[0] == pytest.approx(
        expected, rel=1e-3
    )


def test_log_expected_improvement_is_finite_and_ordered_far_from_best():
    mean = np.linspace(1, 300, 400)
    values = log_expected_improvement(mean, np.ones_like(mean), 0.0)
    assert np.isfinite(values).all()
    assert (np.diff(values) < 0).all()


def test_larger_std_has_larger_expected_improvement():
    values = log_expected_improvement(np.array([1.0, 1.0]), np.array([0.1, 1.0]), 0.0)
    assert values[1] > values[0]


def test_tail_is_the_density_over_the_squared_distance():
    """u = -40: log std + log phi(u) - 2 log 40, up to 3 / u**2."""
    expected = np.log(2) - 0.5 * 1600 - 0.5 * np.log(2 * np.pi) - 2 * np.log(40)
    value = log_expected_improvement(np.array([80.5]), np.array([2.0]), 0.5)[0]
    assert value == pytest.approx(expected, abs=4 / 1600)


def test_expansion_joins_the_exact_value():
    above, below = log_expected_improvement(np.array([5.9999, 6.0001]), np.ones(2), 0.0)
    # The expansion is larger by about 2 / u**2.
    assert below - above == pytest.approx(2 / 36, rel=0.15)

"""The structured covariance against the matrix of all pairs of terms."""

import numpy as np
import pytest

from agents.term_covariance import TermCovariance, component_covariances
from agents.term_sums import TermSums, UsedTerms

DECISIONS, WIDTHS = 3, 4
VARIANCES = np.array([4.0, 0.5, 1.0, 2.0, 0.3, 0.2, 0.7])


def same(values: np.ndarray) -> np.ndarray:
    return (values[:, None] == values).astype(float)


def dense() -> np.ndarray:
    """Prior covariances of the components, [component, term, term], from their definition."""
    terms = np.array([(d, c, w) for d in range(DECISIONS) for c in range(2) for w in range(WIDTHS)])
    decision, column, width = terms.T
    steps = width - (WIDTHS - 1) / 2
    decay = np.outer(steps, steps)
    ones, each = np.ones_like(decay), same(decision) * same(column)
    smooth = np.exp(-0.5 * np.subtract.outer(steps, steps) ** 2)
    shared = [ones, decay, same(column) * (1 + 0.05 * decay)]
    return np.stack([*shared, same(decision), each, each * decay, each * smooth])


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(5, 2 * DECISIONS * WIDTHS))


def test_times_equals_the_dense_product(rows):
    covariance = TermCovariance(DECISIONS, WIDTHS, VARIANCES)
    full = np.tensordot(VARIANCES, dense(), 1)
    np.testing.assert_allclose(covariance.times(rows), rows @ full)
    np.testing.assert_allclose(covariance.diagonal, np.diag(full))


def test_covariances_of_sums_equal_the_dense_products():
    """The two groups of policies have terms in common, and some of their own."""
    covariance, rng = TermCovariance(DECISIONS, WIDTHS, VARIANCES), np.random.default_rng(0)
    full = np.tensordot(VARIANCES, dense(), 1)
    left, right = (
        TermSums(UsedTerms(rng.integers(low, low + 3, (count, DECISIONS, 2)), WIDTHS), rng.random((count, 6)))
        for low, count in ((1, 5), (2, 2))
    )
    x, y = left.dense(), right.dense()
    np.testing.assert_allclose(covariance.of(left, covariance.roots(left.terms)), x @ full @ x.T, rtol=1e-6)
    np.testing.assert_allclose(covariance.between(left, right), x @ full @ y.T)
    np.testing.assert_allclose(covariance.variances_of(left), np.diag(x @ full @ x.T))


def test_components_equal_the_dense_products(rows):
    expected = [rows @ part @ rows.T for part in dense()]
    np.testing.assert_allclose(component_covariances(rows, DECISIONS, WIDTHS), expected, atol=1e-12)


def test_samples_have_the_covariance():
    covariance = TermCovariance(DECISIONS, WIDTHS, VARIANCES)
    samples = covariance.sample(np.random.default_rng(1), 40000)
    full = np.tensordot(VARIANCES, dense(), 1)
    spread = np.sqrt(np.outer(np.diag(full), np.diag(full)))
    assert np.abs(samples.T @ samples / len(samples) - full).max() / spread.max() < 0.05


def test_samples_without_shared_variance():
    """A component of variance 0 has a factor too."""
    samples = TermCovariance(2, 2, [0, 0, 0, 1, 0, 0, 0]).sample(np.random.default_rng(0), 3)
    np.testing.assert_allclose(samples, np.repeat(samples[:, [0, 4]], 4, axis=1), atol=1e-3)

"""Sums of terms, by hand."""

import numpy as np
import pytest

from agents.term_sums import TermSums, UsedTerms, block_diagonal


@pytest.fixture
def sums() -> TermSums:
    """Two policies of two decisions and two widths, so that there are eight terms."""
    terms = UsedTerms(np.array([[[1, 2], [1, 1]], [[1, 1], [2, 1]]]), 2)
    return TermSums(terms, np.array([[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]]))


def test_used_terms_are_those_of_any_policy(sums):
    terms = sums.terms
    assert terms.of_policies.tolist() == [[0, 3, 4, 6], [0, 2, 5, 6]]
    assert terms.used.tolist() == [0, 2, 3, 4, 5, 6]
    assert terms.decision.tolist() == [0, 0, 0, 1, 1, 1]
    assert terms.place.tolist() == [0, 2, 3, 0, 1, 2]
    assert terms.position.tolist() == [[0, -1, 1, 2], [3, 4, 5, -1]]
    assert terms.columns.tolist() == [[0, 2, 3, 5], [0, 1, 4, 5]]


def test_weights_of_policies(sums):
    expected = [[0.1, 0, 0, 0.2, 0.3, 0, 0.4, 0], [0.5, 0, 0.6, 0, 0, 0.7, 0.8, 0]]
    np.testing.assert_array_equal(sums.dense(), expected)
    np.testing.assert_allclose(sums.by_place, [[0.4, 0, 0.4, 0.2], [0.5, 0.7, 1.4, 0]])
    np.testing.assert_allclose(sums.combined(np.array([[1.0, -1.0]])), [np.subtract(*expected)])


def test_sums_of_values(sums):
    theta = np.arange(8.0)
    np.testing.assert_allclose(sums.applied_to(theta), [0.6 + 1.2 + 2.4, 1.2 + 3.5 + 4.8])
    np.testing.assert_allclose(sums.applied_to(np.stack([theta, -theta], axis=1)), [[4.2, -4.2], [9.5, -9.5]])


def test_blocks_of_used_terms(sums):
    """Rows are terms 0, 2, 4 and 6, columns those of the fixture; terms of other decisions have no entry."""
    rows = UsedTerms(np.array([[[1, 1], [1, 1]]]), 2)
    blocks = np.stack([np.arange(1.0, 17).reshape(4, 4), np.arange(101.0, 117).reshape(4, 4)])
    assert rows.used.tolist() == [0, 2, 4, 6]
    assert block_diagonal(blocks, rows, sums.terms).toarray().tolist() == [
        [1, 3, 4, 0, 0, 0],
        [9, 11, 12, 0, 0, 0],
        [0, 0, 0, 101, 102, 103],
        [0, 0, 0, 109, 110, 111],
    ]

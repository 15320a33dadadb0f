"""Prior covariance of the parameters of the additive loss model, without the matrix of all pairs of terms.

A level is constant over the widths, with variance 1; a decay is linear in the width, with variance (width - middle
width)**2, which is 0.25 to 12.25 for eight widths. The components are

0. one level of all terms,
1. one decay of all terms,
2. a level and 0.05 times the variance of a decay for each column, over all decisions,
3. a level for each decision, over both columns,
4. a level for each column of each decision,
5. a decay for each column of each decision,
6. a smooth function of the width for each column of each decision: variance 1, length scale 1 bit.

The first three are shared by all decisions, the others independent between them. With as many variances, the
covariance of theta [decision, column * width] is ones ⊗ shared + identity ⊗ own, where the first factors are matrices
over decisions and `shared` and `own` small ones over columns and widths. Time and memory of everything here grow
linearly with the number of decisions.
"""

from collections.abc import Sequence
from itertools import starmap

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import cholesky
from scipy.sparse import csr_array

from agents.base import FloatArray
from agents.term_sums import TermSums, UsedTerms, block_diagonal

_JITTER = 1e-9
"""Relative variance added to the diagonal of semidefinite matrices before their factors are computed."""
_SHARED = 3
"""Number of components that all decisions share."""


class TermCovariance:
    """Prior covariance of theta [decision, 2, width], flattened to terms.

    Args:
        decisions: Number of decisions.
        widths: Number of widths.
        variances: Variance of each of the seven components.

    Example:
        >>> covariance = TermCovariance(1, 2, [1, 0, 0, 0, 0, 0, 0])  # one level of all terms
        >>> covariance.times(np.array([[1.0, 0.0, 0.0, 0.0]])).tolist()
        [[1.0, 1.0, 1.0, 1.0]]
    """

    def __init__(self, decisions: int, widths: int, variances: ArrayLike) -> None:
        parts, scale = _parts(widths), np.asarray(variances, dtype=np.float64)
        self._decisions = decisions
        self._shared = np.tensordot(scale[:_SHARED], parts[:_SHARED], 1)
        self._own = np.tensordot(scale[_SHARED:], parts[_SHARED:], 1)

    def times(self, left: FloatArray) -> FloatArray:
        """Multiply rows by the covariance.

        Args:
            left: Rows [row, term].

        Returns:
            Product [row, term].
        """
        by_decision = left.reshape(len(left), self._decisions, -1)
        # One product of a tall matrix is faster than one for each row, and the sum in place needs no copy.
        product = (left.reshape(-1, len(self._own)) @ self._own).reshape(by_decision.shape)
        product += (by_decision.sum(axis=1) @ self._shared)[:, None]
        return np.asarray(product.reshape(left.shape))

    def roots(self, terms: UsedTerms) -> csr_array:
        """Compute the transposed Cholesky factor of the covariance of used terms without its shared part.

        Args:
            terms: Terms of a group of policies.

        Returns:
            Sparse matrix [used, used].
        """
        is_used = terms.position >= 0
        both = is_used[:, :, None] & is_used[:, None]
        blocks = np.where(both, self._own, 0.0) + (_jitter(self._own) + ~both) * np.eye(len(self._own))
        factors = np.asarray(np.linalg.cholesky(blocks), dtype=np.float64)
        return block_diagonal(factors.swapaxes(1, 2), terms, terms)

    def of(self, sums: TermSums, roots: csr_array) -> FloatArray:
        """Compute the covariances of sums of terms.

        Args:
            sums: One sum for each policy.
            roots: Result of `roots` for the terms of the policies.

        Returns:
            Array [policy, policy].
        """
        rows = roots @ sums.rows
        # The product of a matrix and its own transpose takes half of the time of one of two matrices.
        return np.asarray(rows.T @ rows + sums.by_place @ self._shared @ sums.by_place.T)

    def between(self, left: TermSums, right: TermSums) -> FloatArray:
        """Compute the covariances of two groups of sums of terms.

        Args:
            left: One sum for each policy of the first group.
            right: One sum for each policy of the second group.

        Returns:
            Array [left, right].
        """
        blocks = np.broadcast_to(self._own, (self._decisions, *self._own.shape))
        rows = block_diagonal(blocks, right.terms, left.terms) @ left.rows
        return np.asarray(rows.T @ right.rows + left.by_place @ self._shared @ right.by_place.T)

    def variances_of(self, sums: TermSums) -> FloatArray:
        """Compute the variances of sums of terms.

        Args:
            sums: One sum for each policy.

        Returns:
            Variances [policy].
        """
        shared = np.einsum("pt,pt->p", sums.by_place @ self._shared, sums.by_place)
        w, a = (sums.terms.place[sums.terms.columns[:, column::2]] for column in (0, 1))
        w_shares, a_shares = sums.shares[:, ::2], sums.shares[:, 1::2]
        own = self._own[w, w] * w_shares**2 + self._own[a, a] * a_shares**2 + 2 * self._own[w, a] * w_shares * a_shares
        return np.asarray(shared + own.sum(axis=1))

    @property
    def diagonal(self) -> FloatArray:
        """Variance of each term, [term]."""
        return np.tile(np.diag(self._shared) + np.diag(self._own), self._decisions)

    def sample(self, generator: np.random.Generator, count: int) -> FloatArray:
        """Sample theta with a mean of 0.

        Args:
            generator: Source of random numbers.
            count: Number of samples.

        Returns:
            Samples [sample, term].
        """
        size = len(self._own)
        own = generator.standard_normal((count, self._decisions, size)) @ _root(self._own).T
        shared = generator.standard_normal((count, 1, size)) @ _root(self._shared).T
        return np.asarray((own + shared).reshape(count, self._decisions * size))


def component_covariances(left: FloatArray, decisions: int, widths: int) -> FloatArray:
    """Compute the covariances of linear functions of theta under each component with a variance of 1.

    Args:
        left: Coefficients of each function, [row, term].
        decisions: Number of decisions.
        widths: Number of widths.

    Returns:
        Array [component, row, row].
    """
    parts, by_decision = _parts(widths), left.reshape(len(left), decisions, -1)
    summed = by_decision.sum(axis=1)
    shared = [summed @ part @ summed.T for part in parts[:_SHARED]]
    own = [(by_decision @ part).reshape(left.shape) @ left.T for part in parts[_SHARED:]]
    return np.stack([*shared, *own])


def _parts(widths: int) -> FloatArray:
    """Return the covariance of each component within a decision, [component, column * width, column * width]."""
    steps = np.arange(widths) - (widths - 1) / 2
    level, decay = np.ones((widths, widths)), np.outer(steps, steps)
    smooth = np.exp(-0.5 * np.subtract.outer(steps, steps) ** 2)
    both, each = np.ones((2, 2)), np.eye(2)
    shared: Sequence[tuple[FloatArray, FloatArray]] = [(both, level), (both, decay), (each, level + 0.05 * decay)]
    own: Sequence[tuple[FloatArray, FloatArray]] = [(both, level), (each, level), (each, decay), (each, smooth)]
    return np.stack(list(starmap(np.kron, [*shared, *own])))


def _root(matrix: FloatArray) -> FloatArray:
    """Return a lower triangular factor of a semidefinite matrix."""
    return np.asarray(cholesky(matrix + _jitter(matrix) * np.eye(len(matrix)), lower=True))


def _jitter(matrix: FloatArray) -> float:
    return _JITTER * max(float(matrix.max()), float(np.finfo(np.float64).tiny))

"""Weighted sums of the terms of policies, of which only the terms that some policy has are stored."""

from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

from agents.base import FloatArray, IntArray
from agents.loss_terms import term_indices


class UsedTerms:
    """Terms of a group of policies: those that at least one of them has.

    Args:
        bits: Policies [policy, decision, 2].
        widths: Number of widths.

    Attributes:
        of_policies: Indices into the flattened theta of the terms of each policy, [policy, decision * 2].
        used: Those of all policies, in ascending order, [used].
        columns: Positions in `used` of the terms of each policy, [policy, decision * 2].
        decision: Decision of each used term, [used].
        place: Column and width of each used term: column * widths + width, [used].
        entries: Positions of the terms of each policy in an array [used, policy], flattened, [decision * 2, policy].
        position: Position in `used` of each term, -1 where no policy has it, [decision, place].

    Example:
        >>> UsedTerms(np.array([[[1, 2]], [[1, 3]]]), 4).used.tolist()
        [0, 5, 6]
    """

    def __init__(self, bits: IntArray, widths: int) -> None:
        self.of_policies = term_indices(bits, widths)
        is_used = np.zeros((bits.shape[1], 2 * widths), dtype=np.bool_)
        is_used.ravel()[self.of_policies] = True
        self.used = np.flatnonzero(is_used)
        self.decision, self.place = np.nonzero(is_used)
        self.position = np.full(is_used.shape, -1)
        self.position[is_used] = np.arange(len(self.used))
        self.columns = self.position.ravel()[self.of_policies]
        # Each decision's rows are written at once, which is faster than policy by policy.
        self.entries = np.ascontiguousarray(self.columns.T) * len(bits) + np.arange(len(bits))


class TermSums:
    """Weighted sums of terms, one for each policy of a group.

    Args:
        terms: Terms of the policies.
        shares: Weight of each term of each policy, [policy, decision * 2].

    Attributes:
        rows: The weights of all used terms, [used, policy].

    Example:
        >>> TermSums(UsedTerms(np.array([[[1, 2]]]), 3), np.array([[0.5, 2.0]])).dense().tolist()
        [[0.5, 0.0, 0.0, 0.0, 2.0, 0.0]]
    """

    def __init__(self, terms: UsedTerms, shares: FloatArray) -> None:
        self.terms, self.shares = terms, shares
        self.rows = np.zeros((len(terms.used), len(shares)))
        self.rows.ravel()[terms.entries] = shares.T

    @cached_property
    def by_place(self) -> FloatArray:
        """Weights summed over all decisions, [policy, place]."""
        is_at = self.terms.place[:, None] == np.arange(self.terms.position.shape[1])
        return np.asarray(self.rows.T @ is_at.astype(np.float64))

    def dense(self) -> FloatArray:
        """Return the weights of all terms, [policy, term]."""
        return self.combined(np.eye(len(self.shares)))

    def applied_to(self, theta: FloatArray) -> FloatArray:
        """Compute the sums.

        Args:
            theta: Values of all terms, [term, ...].

        Returns:
            Sums [policy, ...].
        """
        return np.asarray(self.rows.T @ theta[self.terms.used])

    def combined(self, factors: FloatArray) -> FloatArray:
        """Add up the weights of all policies, each times a factor.

        Args:
            factors: Factors [combination, policy].

        Returns:
            Weights [combination, term].
        """
        combined = np.zeros((len(factors), self.terms.position.size))
        combined[:, self.terms.used] = factors @ self.rows.T
        return combined


def block_diagonal(blocks: FloatArray, rows: UsedTerms, columns: UsedTerms) -> csr_array:
    """Select the rows and columns of used terms of a matrix that has a block for each decision and is 0 elsewhere.

    Args:
        blocks: Blocks [decision, place, place].
        rows: Terms whose rows are selected.
        columns: Terms whose columns are selected.

    Returns:
        Sparse matrix [used by rows, used by columns].
    """
    positions, values = columns.position[rows.decision], blocks[rows.decision, rows.place]
    is_stored = (positions >= 0) & (values != 0)
    starts = np.concatenate(([0], is_stored.sum(axis=1).cumsum()))
    return csr_array((values[is_stored], positions[is_stored], starts), shape=(len(rows.used), len(columns.used)))

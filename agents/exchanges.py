"""Changes of one or two decisions of a policy, least expected loss first, without listing all pairs of changes."""

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import islice

import numpy as np

from agents.base import FloatArray, IntArray
from agents.space import SearchSpace

_ROUNDING = 1e-9
"""Relative slack of lower bounds."""


@dataclass(frozen=True, slots=True, eq=False)
class _Moves:
    """Changes of one decision each."""

    decision: IntArray
    """[move]"""
    pair: IntArray
    """New bits, [move, 2]."""
    loss: FloatArray
    """Expected loss that each adds, [move]."""
    cost: FloatArray
    """Cost that each adds, [constraint, move]."""
    limit: FloatArray
    """Cost that may be added, [constraint]."""

    def bounds(self) -> FloatArray:
        """Lower bounds of the loss of each move, alone or with another one, [move]; infinite if nothing fits.

        The other one is the best that fits by the first constraint.
        """
        (cost, *_), (limit, *_) = self.cost, self.limit
        cheapest = np.argsort(cost, kind="stable")
        least = np.concatenate(([np.inf], np.minimum.accumulate(self.loss[cheapest])))
        slack = limit - cost + _ROUNDING * (np.abs(limit) + np.abs(cost))
        partner = least[np.searchsorted(cost[cheapest], slack, side="right")]
        alone = np.where((self.cost <= self.limit[:, None]).all(axis=0), self.loss, np.inf)
        return np.asarray(np.minimum(self.loss + partner, alone))

    def partners(self, first: int) -> Iterator[tuple[float, int]]:
        """List what fits together with a move, least loss first.

        Args:
            first: Number of the move.

        Yields:
            Loss of both, and number of the partner, a later move; that of the move itself where it is alone.
        """
        second = np.arange(first, len(self.loss))
        is_other = second != first
        fits = (self.cost[:, first, None] + is_other * self.cost[:, second] <= self.limit[:, None]).all(axis=0)
        possible = fits & (~is_other | (self.decision[second] != self.decision[first]))
        second, is_other = second[possible], is_other[possible]
        loss = self.loss[first] + is_other * self.loss[second]
        order = np.argsort(loss, kind="stable")
        return zip(loss[order].tolist(), second[order].tolist(), strict=True)


def exchanges(space: SearchSpace, bits: IntArray, *, max_change: int) -> Iterator[IntArray]:
    """List policies within the budget that differ in one or two decisions by a few bits, least expected loss first.

    Partners of a move are looked for when the lower bound of its loss is reached, so that the time for each policy does
    not grow with the number of pairs of moves.

    Args:
        space: Search space with its prior.
        bits: A policy, [decision, 2].
        max_change: Maximum number of bits that a decision gains or loses.

    Yields:
        Policies [decision, 2].
    """
    moves, partners = _moves_from(space, bits, max_change), dict[int, Iterator[tuple[float, int]]]()
    # (loss, whether it is exact, first move, second move): of equal losses, bounds come first.
    waiting = [(bound, False, first, first) for first, bound in enumerate(moves.bounds().tolist()) if bound < np.inf]
    heapify(waiting)
    while waiting:
        _, is_exact, first, second = heappop(waiting)
        if is_exact:
            changed = bits.copy()
            for move in (first, second):
                changed[moves.decision[move]] = moves.pair[move]
            yield changed
        else:
            partners[first] = moves.partners(first)
        for loss, partner in islice(partners[first], 1):
            heappush(waiting, (loss, True, first, partner))


def _moves_from(space: SearchSpace, bits: IntArray, max_change: int) -> _Moves:
    w, a = (np.arange(1, count + 1) for count in space.allowed.shape[1:])
    distance = np.abs(bits[:, 0, None, None] - w[:, None]) + np.abs(bits[:, 1, None, None] - a)
    moves = np.argwhere(space.allowed & (distance > 0) & (distance <= max_change))
    decision, current = moves[:, 0], tuple(bits[moves[:, 0]].T - 1)
    return _Moves(
        decision=decision,
        pair=moves[:, 1:] + 1,
        loss=space.nominal_prior[tuple(moves.T)] - space.nominal_prior[decision, *current],
        cost=space.cost[:, *moves.T] - space.cost[:, decision, *current],
        limit=space.max_totals - space.total(bits),
    )

"""Heuristic solver of multiple-choice knapsacks: policies of least summed loss under every budget, many losses at once.

First every budget gets a price, and every decision takes the pair of least loss plus price (Lagrangian relaxation;
Sinha and Zoltners 1979). That is the optimum for a slightly smaller budget. The remaining budget is then spent by
exchanges: one decision takes a better pair, and another one a cheaper pair.
"""

import numpy as np

from agents.base import FloatArray, IntArray
from agents.space import SearchSpace

_HALVINGS = 30
_ROUNDS = 4
_PARTNERS = 200
"""Moves tried on each side of an exchange: those that gain most, and those that cost least loss."""


class Knapsack:
    """Solver for the policies of one search space.

    Args:
        space: Search space with costs and budgets.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._widths = space.allowed.shape[1:]
        self._open = space.allowed.reshape(len(space.names), -1)
        cost = space.cost.reshape(len(space.cost), *self._open.shape) / space.budget[:, None, None]
        self._cost = np.where(self._open, cost, np.inf)
        """[constraint, decision, pair], in parts of the budget."""

    def solve(self, losses: FloatArray) -> IntArray:
        """Find policies of small summed loss.

        They are within the budgets if prices alone can achieve that, which is always so for a single budget.

        Args:
            losses: Losses [problem, decision, w_bits, a_bits].

        Returns:
            Policies [problem, decision, 2].
        """
        flat = self._flat(losses)
        mix = np.full((len(flat), len(self._cost)), 1 / len(self._cost))
        chosen = self._priced(flat, mix)
        for _ in range(_ROUNDS if len(self._cost) > 1 else 0):
            mix = mix * self._load(chosen) ** 4
            mix /= mix.sum(axis=1, keepdims=True)
            chosen = self._priced(flat, mix)
        return self._bits(np.stack([self._exchange(*each) for each in zip(flat, chosen, strict=True)]))

    def neighbours(self, losses: FloatArray, bits: IntArray, count: int) -> IntArray:
        """List the best neighbours of a policy, which differ from it by one move or one exchange.

        In an exchange one decision reduces its loss, and another one its cost.

        Args:
            losses: Losses [decision, w_bits, a_bits].
            bits: A policy within the budgets, [decision, 2].
            count: Maximum number of neighbours.

        Returns:
            Policies [policy, decision, 2] within the budgets, least summed loss first.
        """
        flat = self._flat(losses[None])[0]
        chosen = self._pairs(bits)
        first, second, change = self._moves(flat, chosen, everything=True)
        order = _positions_of_least(change, count)
        policies = np.repeat(chosen[None], len(order), axis=0)
        rows = np.arange(len(order))
        for move in (first[order], second[order]):
            policies[rows, move[:, 0]] = move[:, 1]
        return self._bits(policies)

    def _flat(self, losses: FloatArray) -> FloatArray:
        """Flatten losses to [problem, decision, pair], infinite where a pair is not allowed."""
        w, a = self._widths
        return np.where(self._open, losses[:, :, :w, :a].reshape(len(losses), *self._open.shape), np.inf)

    def _load(self, chosen: IntArray) -> FloatArray:
        """Costs of policies of pairs [policy, decision], relative to the budgets, [policy, constraint]."""
        return np.asarray(self._cost[:, np.arange(chosen.shape[1]), chosen].sum(axis=2).T)

    def _priced(self, flat: FloatArray, mix: FloatArray) -> IntArray:
        """Find pairs [problem, decision] at the lowest price at which they fit, by bisection of its logarithm."""
        cost = np.einsum("pc,cdk->pdk", mix, np.where(self._open, self._cost, 0.0))
        low, high = np.full(len(flat), -30.0), np.full(len(flat), 30.0)
        scale = np.where(self._open, flat, 0.0).max(axis=(1, 2))
        best = np.where(self._open, cost, np.inf).argmin(axis=2)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            trial = (flat + (scale * np.exp(middle))[:, None, None] * cost).argmin(axis=2)
            fits = (self._load(trial) <= 1).all(axis=1)
            best[fits] = trial[fits]
            low, high = np.where(fits, low, middle), np.where(fits, middle, high)
        return np.asarray(best)

    def _exchange(self, flat: FloatArray, chosen: IntArray) -> IntArray:
        """Apply the best move or exchange until none reduces the loss."""
        chosen = chosen.copy()
        for _ in range(3 * len(chosen)):
            first, second, change = self._moves(flat, chosen, everything=False)
            if not len(change) or change.min() >= 0:
                break
            best = int(change.argmin())
            for decision, pair in (first[best], second[best]):
                chosen[decision] = pair
        return chosen

    def _moves(self, flat: FloatArray, chosen: IntArray, *, everything: bool) -> tuple[IntArray, IntArray, FloatArray]:
        """List moves and exchanges that fit.

        Args:
            flat: Losses [decision, pair].
            chosen: Current pairs [decision].
            everything: Include those that do not reduce the loss.

        Returns:
            (decision, pair) [move, 2] of both partners, the same twice for a single move, and the change of the loss
            [move].
        """
        rows = np.arange(len(chosen))
        change = flat - flat[rows, chosen][:, None]
        added = self._cost - self._cost[:, rows, chosen][:, :, None]
        slack = 1 - self._load(chosen[None])[0]
        moves = np.argwhere(self._open & (np.arange(flat.shape[1]) != chosen[:, None]))
        gain, price = change[tuple(moves.T)], added[:, moves[:, 0], moves[:, 1]]
        single = np.flatnonzero((price <= slack[:, None]).all(axis=0) & (everything | (gain < 0)))
        cheaper = np.flatnonzero((price < 0).any(axis=0))
        better = np.flatnonzero(gain < 0)
        cheaper, better = (side[_positions_of_least(gain[side], _PARTNERS)] for side in (cheaper, better))
        total = gain[better][:, None] + gain[cheaper]
        fits = (price[:, better][:, :, None] + price[:, cheaper][:, None, :] <= slack[:, None, None]).all(axis=0)
        distinct = moves[better, 0][:, None] != moves[cheaper, 0]
        i, j = np.nonzero(fits & distinct & (everything | (total < 0)))
        left = np.concatenate((single, better[i]))
        right = np.concatenate((single, cheaper[j]))
        return moves[left], moves[right], np.concatenate((gain[single], total[i, j]))

    def _pairs(self, bits: IntArray) -> IntArray:
        return np.asarray((bits[..., 0] - 1) * self._widths[1] + bits[..., 1] - 1)

    def _bits(self, pairs: IntArray) -> IntArray:
        return np.stack(np.divmod(pairs, self._widths[1]), axis=-1).astype(np.int64) + 1


def _positions_of_least(values: FloatArray, count: int) -> IntArray:
    """Return the positions of the least values in ascending order of value, of equal ones the first ones."""
    positions = np.arange(len(values))
    if count < len(values):
        # Few values have to be sorted after this.
        positions = np.flatnonzero(values <= np.partition(values, count)[count])
    return np.asarray(positions[np.argsort(values[positions], kind="stable")[:count]])

"""The rival that takes one bit at a time, where it is missed least."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.archive import Archive
from agents.base import IntArray
from agents.space import REL_TOLERANCE, SearchSpace

FloatArray = NDArray[np.float64]
_PRICE_TOLERANCE = 1e-9
_REACH = 2
"""How many bits a decision gains or loses at most in one step of the climb."""


def greedy_policy(space: SearchSpace) -> IntArray:
    """The policy [decision, 2] at the end of the greedy way down, projected.

    From the most bits on, the step to fewer bits that adds least expected loss for what it eases the exceeded budgets,
    until none is exceeded; AIMET's automatic mixed precision takes the same way with measured losses.
    """
    size = np.add.outer(*(np.arange(count) for count in space.allowed.shape[1:]))
    bits = _argmin(np.where(space.allowed, -size, np.inf))
    while not space.fits(bits):
        price = _price(space, bits)
        least = price.min()
        if np.isinf(least):
            break
        # Of steps of one price, up to rounding, the one that leaves most bits: small steps, and everybody in turn.
        equal = price <= least + _PRICE_TOLERANCE * abs(least)
        decision, w, a = np.unravel_index(int(np.where(equal, size, -1).argmax()), price.shape)
        bits[decision] = (w + 1, a + 1)
    return space.project(bits)


def _argmin(values: FloatArray) -> IntArray:
    """The pair [decision, 2] of the least of values [decision, w_bits, a_bits]."""
    flat = values.reshape(len(values), -1).argmin(axis=1)
    return np.stack(np.divmod(flat, values.shape[2]), axis=1).astype(np.int64) + 1


def _price(space: SearchSpace, bits: IntArray) -> FloatArray:
    """Loss [decision, w_bits, a_bits] that every smaller pair adds, per part of exceeded budgets saved; else inf."""
    rows, w, a = np.arange(len(bits)), bits[:, 0] - 1, bits[:, 1] - 1
    exceeded = space.total(bits) > space.budget
    load = space.cost[exceeded] / space.budget[exceeded, None, None, None]
    saved = (load[:, rows, w, a][:, :, None, None] - load).sum(axis=0)
    added = space.nominal_prior - space.nominal_prior[rows, w, a][:, None, None]
    widths_w, widths_a = (np.arange(count) for count in space.allowed.shape[1:])
    fewer = (widths_w <= w[:, None])[:, :, None] & (widths_a <= a[:, None])[:, None, :]
    # The current pair itself saves nothing and is out with the rest.
    possible = space.allowed & fewer & (saved > 0)
    return np.where(possible, added / np.where(possible, saved, 1.0), np.inf)


def _exchanges(space: SearchSpace, bits: IntArray) -> Iterator[IntArray]:
    """The policies within the budget that differ in one or two decisions by a few bits, least expected loss first."""
    w, a = (np.arange(1, count + 1) for count in space.allowed.shape[1:])
    distance = np.abs(bits[:, 0, None, None] - w[:, None]) + np.abs(bits[:, 1, None, None] - a)
    moves = np.argwhere(space.allowed & (distance > 0) & (distance <= _REACH))
    rows, current = np.arange(len(bits)), tuple(bits.T - 1)
    loss = space.nominal_prior[tuple(moves.T)] - space.nominal_prior[rows, *current][moves[:, 0]]
    cost = space.cost[:, *moves.T] - space.cost[:, rows, *current][:, moves[:, 0]]
    # A move paired with itself is the move alone; two moves of one decision exclude each other.
    first, second = np.triu_indices(len(moves))
    apart = (first == second) | (moves[first, 0] != moves[second, 0])
    first, second = first[apart], second[apart]
    two = first != second
    limit = space.budget * (1 + REL_TOLERANCE) - space.total(bits)
    fitting = (cost[:, first] + two * cost[:, second] <= limit[:, None]).all(axis=0)
    first, second, two = first[fitting], second[fitting], two[fitting]
    for index in np.argsort(loss[first] + two * loss[second], kind="stable"):
        changed = bits.copy()
        for decision, *pair in (moves[first[index]], moves[second[index]]):
            changed[decision] = np.array(pair) + 1
        yield changed


class Greedy:
    """A `Proposer` that goes down by the prior, then climbs by true scores; deterministic.

    It starts with `greedy_policy`. Then exchanges around the best policy known: one decision gives bits away, another
    one gets them, the least expected loss first, until one is better, which is the next centre (first-improvement hill
    climbing). Where no exchange is new, the best policy again.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._archive = Archive(space)
        self._start = greedy_policy(space)
        self._leave()

    def _leave(self) -> None:
        self._centre: IntArray | None = None
        self._around: Iterator[IntArray] = iter(())

    def propose(self) -> IntArray:
        """The way down's end if it is not known yet, else the next exchange."""
        bits = self._next()
        self._archive.add_pending(bits)
        return bits

    def _next(self) -> IntArray:
        if self._start not in self._archive:
            return self._start.copy()
        best = self._archive.best
        if self._centre is None or (best != self._centre).any():
            self._centre, self._around = best, _exchanges(self._space, best)
        for candidate in self._around:
            bits = self._space.project(candidate)
            if bits not in self._archive:
                return bits
        return best

    def tell(self, bits: IntArray, score: float) -> None:
        """Note what became of a policy."""
        self._archive.record(bits, score)

    def state_dict(self) -> dict[str, Any]:
        """The known policies: the exchanges gone through are among them."""
        return {"archive": self._archive.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state_dict` was taken."""
        self._archive.load_state_dict(state["archive"])
        self._leave()

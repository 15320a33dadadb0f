"""Greedy baseline: lower the width with the least predicted loss per cost saved, then hill climbing."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch

from agents.archive import Archive
from agents.base import FloatArray, IntArray
from agents.exchanges import exchanges
from agents.space import SearchSpace

_PRICE_TOLERANCE = 1e-9
_MAX_BIT_CHANGE = 2
"""Maximum number of bits that a decision gains or loses in one step of the hill climbing."""


def greedy_policy(space: SearchSpace) -> IntArray:
    """Compute the greedy policy under the prior, projected.

    Starts at the most bits and repeatedly takes the step to fewer bits with the least expected loss per relief of
    exceeded budgets, until none is exceeded. AIMET's automatic mixed precision proceeds in this way with measured
    losses.

    Args:
        space: Search space with its prior.

    Returns:
        A policy within the budget, [decision, 2].
    """
    size = np.add.outer(*(np.arange(count) for count in space.allowed.shape[1:]))
    bits = _argmin(np.where(space.allowed, -size, np.inf))
    while not space.fits(bits):
        price = _price(space, bits)
        least = price.min()
        if np.isinf(least):
            break
        # Ties, up to rounding, go to the step that leaves most bits: small steps, spread over the decisions.
        equal = price <= least + _PRICE_TOLERANCE * abs(least)
        decision, w, a = np.unravel_index(int(np.where(equal, size, -1).argmax()), price.shape)
        bits[decision] = (w + 1, a + 1)
    return space.project(bits)


def _argmin(values: FloatArray) -> IntArray:
    """Return the pair [decision, 2] of the smallest of values [decision, w_bits, a_bits]."""
    flat = values.reshape(len(values), -1).argmin(axis=1)
    return np.stack(np.divmod(flat, values.shape[2]), axis=1).astype(np.int64) + 1


def _price(space: SearchSpace, bits: IntArray) -> FloatArray:
    """Compute the loss that every smaller pair adds per part of exceeded budgets saved, [decision, w_bits, a_bits].

    It is infinite for all other pairs.
    """
    rows, w, a = np.arange(len(bits)), bits[:, 0] - 1, bits[:, 1] - 1
    exceeded = space.total(bits) > space.budget
    load = space.cost[exceeded] / space.budget[exceeded, None, None, None]
    saved = (load[:, rows, w, a][:, :, None, None] - load).sum(axis=0)
    added = space.nominal_prior - space.nominal_prior[rows, w, a][:, None, None]
    widths_w, widths_a = (np.arange(count) for count in space.allowed.shape[1:])
    fewer = (widths_w <= w[:, None])[:, :, None] & (widths_a <= a[:, None])[:, None, :]
    # The current pair saves nothing, and is excluded with all that save nothing.
    possible = space.allowed & fewer & (saved > 0)
    return np.where(possible, added / np.where(possible, saved, 1.0), np.inf)


class Greedy:
    """Greedy `Proposer`: starts at the greedy policy under the prior, then hill climbing on scores; deterministic.

    After `greedy_policy` come exchanges around the best policy so far: one decision gives up bits, another one gains
    them, in the order of expected loss. A better policy becomes the next centre (first-improvement hill climbing). When
    all exchanges have been proposed, the best policy is proposed again.

    Args:
        space: Search space with its prior.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._archive = Archive(space)
        self._start = greedy_policy(space)
        self._centre: IntArray | None = None
        self._around: Iterator[IntArray] = iter(())
        self._position = 0

    def propose(self) -> IntArray:
        """Return the greedy policy first, then the next exchange."""
        bits = self._next()
        self._archive.add_pending(bits)
        return bits

    def _next(self) -> IntArray:
        if self._centre is None and self._start not in self._archive:
            return self._start.copy()
        best = self._archive.best
        if self._centre is None or (best != self._centre).any():
            self._search_around(best, position=0)
        for candidate in self._around:
            self._position += 1
            bits = self._space.project(candidate)
            if bits not in self._archive:
                return bits
        return best

    def _search_around(self, centre: IntArray, *, position: int) -> None:
        """Go through the exchanges around a policy, from a position on."""
        self._centre, self._position = centre, position
        self._around = islice(exchanges(self._space, centre, max_change=_MAX_BIT_CHANGE), position, None)

    def tell(self, bits: IntArray, score: float) -> None:
        """Record the score of a policy."""
        self._archive.record(bits, score)

    def state_dict(self) -> dict[str, Any]:
        """Return the archive, the centre and the number of exchanges gone through."""
        centre = None if self._centre is None else torch.from_numpy(self._centre)
        return {"archive": self._archive.state_dict(), "centre": centre, "position": self._position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state returned by `state_dict`."""
        self._archive.load_state_dict(state["archive"])
        centre = state.get("centre")  # missing in states of earlier releases, whose archives hold all exchanges
        if centre is None:
            self._centre, self._around, self._position = None, iter(()), 0
        else:
            self._search_around(centre.numpy().copy(), position=state["position"])

"""Uniform baseline: the same bits everywhere."""

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any

import numpy as np

from agents.archive import Archive
from agents.base import IntArray
from agents.space import SearchSpace


def uniform_policies(space: SearchSpace) -> Iterator[IntArray]:
    """Generate one policy for every pair of bits, at every decision the nearest allowed one; not projected.

    Args:
        space: Search space.

    Yields:
        Policies [decision, 2]: first those within the budget, least expected loss first, then the others, least excess
        first.
    """
    pairs = np.argwhere(space.allowed.any(axis=0)) + 1
    policies = sorted((space.nearest(np.tile(pair, (len(space.names), 1))) for pair in pairs), key=space.expected_loss)
    yield from (bits for bits in policies if space.fits(bits))
    yield from (bits for bits in reversed(policies) if not space.fits(bits))


class Uniform:
    """`Proposer` of uniform bits: every pair of w_bits and a_bits in turn, the most promising one first.

    Each is projected: brought under the budget, the rest of which is spent. After the last pair come their neighbours
    in the same order, where one decision takes another pair and the projection compensates for it elsewhere. Learns
    nothing. When all have been proposed, the best policy is proposed again.

    Args:
        space: Search space.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._archive = Archive(space)
        self._restart(position=0)

    def _restart(self, *, position: int) -> None:
        self._position = position
        self._candidates = islice(chain(uniform_policies(self._space), self._neighbours()), position, None)

    def _neighbours(self) -> Iterator[IntArray]:
        """Yield every uniform policy with one decision changed; not projected."""
        for uniform in uniform_policies(self._space):
            bits = self._space.project(uniform)
            for decision in range(len(bits)):
                for pair in self._space.pairs(decision):
                    changed = bits.copy()
                    changed[decision] = pair
                    yield changed

    def propose(self) -> IntArray:
        """Return the next candidate that was not proposed before."""
        for candidate in self._candidates:
            self._position += 1
            bits = self._space.project(candidate)
            if bits not in self._archive:
                self._archive.add_pending(bits)
                return bits
        return self._archive.best

    def tell(self, bits: IntArray, score: float) -> None:
        """Record the score of a policy."""
        self._archive.record(bits, score)

    def state_dict(self) -> dict[str, Any]:
        """Return the archive, and the number of candidates gone through."""
        return {"archive": self._archive.state_dict(), "position": self._position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state returned by `state_dict`."""
        self._archive.load_state_dict(state["archive"])
        self._restart(position=state["position"])

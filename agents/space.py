"""What may be chosen: the bits of every decision, what they cost, and how much there is to spend."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.base import IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """All that a search method may know before its first evaluation; arrays [decision, w_bits, a_bits].

    A decision is one layer, or several that are tied to one pair of bits and whose costs are summed. Both bit axes
    start at 1 bit: index = bits - 1.
    """

    names: tuple[str, ...]
    allowed: NDArray[np.bool_]
    """[decision, w_bits, a_bits]: the pairs that may be chosen; dominated and forbidden pairs are False."""
    cost: NDArray[np.float64]
    """[constraint, decision, w_bits, a_bits]; the first constraint is the objective's."""
    budget: NDArray[np.float64]
    """[constraint]: upper limits of the summed cost."""
    project: Callable[[IntArray], IntArray]
    """Bring bits [decision, 2] under every budget and spend what is left; legal and idempotent."""
    prior: NDArray[np.float64] | None = None
    """Expected loss of score by each pair alone, or None where nobody measured it."""

    def total(self, bits: IntArray) -> NDArray[np.float64]:
        """The summed cost [constraint] of bits [decision, 2]."""
        decisions = np.arange(len(self.names))
        return np.asarray(self.cost[:, decisions, bits[:, 0] - 1, bits[:, 1] - 1].sum(axis=1))

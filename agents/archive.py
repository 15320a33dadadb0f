"""Archive of proposed and evaluated policies."""

import math
from bisect import insort
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from agents.base import FloatArray, IntArray
from agents.policy_keys import from_key, to_key
from agents.space import SearchSpace

CAPACITY = 5_000
"""Number of policies that search methods keep in memory when they forget others, at twice this number."""


def best_and_latest(losses: FloatArray, count: int) -> IntArray:
    """Select values to keep of a longer series: half of them the least ones, the others the latest.

    Args:
        losses: Values [value], oldest first; NaN counts as largest.
        count: Maximum number of values.

    Returns:
        Their positions, in ascending order.

    Example:
        >>> best_and_latest(np.array([0.1, 0.9, 0.3, 0.8, 0.7, 0.6]), 4).tolist()
        [0, 2, 4, 5]
    """
    if len(losses) <= count:
        return np.arange(len(losses))
    is_kept = np.zeros(len(losses), dtype=np.bool_)
    is_kept[np.argsort(losses, kind="stable")[: count // 2]] = True
    is_kept[np.flatnonzero(~is_kept)[-(count - count // 2) :]] = True
    return np.flatnonzero(is_kept)


class Archive:
    """Legal policies of a search space with their scores, in the order in which they were added.

    Evaluation is assumed to be deterministic: a policy that is recorded again keeps its first score. Policies that the
    space does not allow, or that exceed its budget, are ignored: they may come from searches with other budgets. At
    twice `CAPACITY` policies, all but `CAPACITY` of them are forgotten: the best and the latest stay.

    Args:
        space: Search space that the policies belong to.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._scores: dict[bytes, float] = {}
        self._numbers: dict[bytes, int] = {}
        self._entered = 0
        self._ranking: list[tuple[float, int, bytes]] = []
        """(minus score, number, key) of policies with a score, in order.

        Sorting all of them for each proposal would take longer with every episode.
        """

    def __len__(self) -> int:
        """Number of policies, scored or not."""
        return len(self._scores)

    def __contains__(self, bits: IntArray) -> bool:
        """Whether a policy [decision, 2] was proposed or recorded."""
        return to_key(bits) in self._scores

    def add_pending(self, bits: IntArray) -> None:
        """Add a proposed policy; its score is NaN until it is recorded.

        Args:
            bits: The policy, [decision, 2].
        """
        self._enter(to_key(bits), math.nan)

    def record(self, bits: IntArray, score: float) -> bool:
        """Record the score of a policy.

        Args:
            bits: The policy, [decision, 2].
            score: Its score, higher is better.

        Returns:
            Whether the policy is legal and had no score before.

        Raises:
            ValueError: The score is not finite, or the policy has another shape.
        """
        if not math.isfinite(score):
            raise ValueError(f"a score must be finite, got {score}")
        if not self._space.fits(bits):
            return False
        key = to_key(bits)
        is_new = math.isnan(self._scores.get(key, math.nan))
        if is_new:
            self._enter(key, float(score))
        return is_new

    @property
    def policies(self) -> list[IntArray]:
        """All policies [decision, 2], oldest first."""
        return list(self.bits)

    @property
    def bits(self) -> IntArray:
        """All policies as one array [policy, decision, 2], oldest first."""
        widths = np.frombuffer(b"".join(self._scores), dtype=np.uint8)
        return widths.reshape(len(self), len(self._space.names), 2).astype(np.int64)

    def top(self, count: int) -> list[IntArray]:
        """Return the best policies that have a score.

        Args:
            count: Maximum number of policies.

        Returns:
            Policies [decision, 2], best first; of equal ones the older first.
        """
        return [from_key(key) for _, _, key in self._ranking[:count]]

    @property
    def best(self) -> IntArray:
        """The best scored policy; if there is none, the oldest one.

        Raises:
            IndexError: The archive is empty.
        """
        return (self.top(1) or self.policies)[0]

    def state_dict(self) -> dict[str, Any]:
        """Return bits [policy, decision, 2] and scores [policy] (NaN if pending) as tensors."""
        bits = torch.from_numpy(self.bits.astype(np.uint8))
        return {"bits": bits, "scores": torch.tensor(list(self._scores.values()), dtype=torch.float64)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the contents by a state returned by `state_dict`."""
        keys = [to_key(bits) for bits in state["bits"].numpy()]
        self._replace(zip(keys, state["scores"].tolist(), strict=True))

    def _enter(self, key: bytes, score: float) -> None:
        """Add a policy, or the score of one that had none; a score of NaN changes no policy."""
        if key not in self._scores:
            self._numbers[key] = self._entered
            self._entered += 1
        if math.isnan(score):
            self._scores.setdefault(key, score)
        else:
            self._scores[key] = score
            insort(self._ranking, (-score, self._numbers[key], key))
        if len(self) >= 2 * CAPACITY:
            self._forget()

    def _forget(self) -> None:
        """Keep only `CAPACITY` policies."""
        entries = list(self._scores.items())
        losses = -np.array([score for _, score in entries])
        self._replace([entries[number] for number in best_and_latest(losses, CAPACITY)])

    def _replace(self, entries: Iterable[tuple[bytes, float]]) -> None:
        """Replace the contents by policies and their scores."""
        self._scores = dict(entries)
        self._entered = len(self)
        self._numbers = {key: number for number, key in enumerate(self._scores)}
        self._ranking = sorted(
            (-score, self._numbers[key], key) for key, score in self._scores.items() if not math.isnan(score)
        )

"""Archive of proposed and evaluated policies."""

import math
from bisect import insort
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from agents.base import IntArray
from agents.space import SearchSpace


class Archive:
    """Legal policies of a search space with their scores, in the order in which they were added.

    Evaluation is assumed to be deterministic: a policy that is recorded again keeps its first score. Policies that the
    space does not allow, or that exceed its budget, are ignored: they may come from searches with other budgets.

    Args:
        space: Search space that the policies belong to.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._entries: dict[bytes, tuple[IntArray, float]] = {}
        self._numbers: dict[bytes, int] = {}
        self._ranking: list[tuple[float, int, bytes]] = []
        """(minus score, number, key) of policies with a score, in order.

        Sorting all of them for each proposal would take longer with every episode.
        """

    def __len__(self) -> int:
        """Number of policies, scored or not."""
        return len(self._entries)

    def __contains__(self, bits: IntArray) -> bool:
        """Whether a policy [decision, 2] was proposed or recorded."""
        return _key(bits) in self._entries

    def add_pending(self, bits: IntArray) -> None:
        """Add a proposed policy; its score is NaN until it is recorded.

        Args:
            bits: The policy, [decision, 2].
        """
        self._enter(bits, math.nan)

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
        fits, key = self._space.fits(bits), _key(bits)
        is_new = fits and (key not in self._entries or math.isnan(self._entries[key][1]))
        if is_new:
            self._enter(bits, float(score))
        return is_new

    @property
    def policies(self) -> list[IntArray]:
        """All policies [decision, 2], oldest first."""
        return [bits.copy() for bits, _ in self._entries.values()]

    def top(self, count: int) -> list[IntArray]:
        """Return the best policies that have a score.

        Args:
            count: Maximum number of policies.

        Returns:
            Policies [decision, 2], best first; of equal ones the older first.
        """
        return [self._entries[key][0].copy() for _, _, key in self._ranking[:count]]

    @property
    def best(self) -> IntArray:
        """The best scored policy; if there is none, the oldest one.

        Raises:
            IndexError: The archive is empty.
        """
        return (self.top(1) or self.policies)[0]

    def state_dict(self) -> dict[str, Any]:
        """Return bits [policy, decision, 2] and scores [policy] (NaN if pending) as tensors."""
        bits = np.array(self.policies, dtype=np.int64).reshape(len(self), len(self._space.names), 2)
        scores = [score for _, score in self._entries.values()]
        return {"bits": torch.from_numpy(bits), "scores": torch.tensor(scores, dtype=torch.float64)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the contents by a state returned by `state_dict`."""
        for kept in (self._entries, self._numbers, self._ranking):
            kept.clear()
        for bits, score in zip(state["bits"].numpy(), state["scores"].tolist(), strict=True):
            self._enter(bits, score)

    def _enter(self, bits: IntArray, score: float) -> None:
        """Add a policy, or the score of one that had none; a score of NaN changes no policy."""
        key = _key(bits)
        number = self._numbers.setdefault(key, len(self._numbers))
        if math.isnan(score):
            self._entries.setdefault(key, (bits.copy(), score))
        else:
            self._entries[key] = (bits.copy(), score)
            insort(self._ranking, (-score, number, key))


def _key(bits: IntArray) -> bytes:
    return np.asarray(bits, dtype=np.int64).tobytes()

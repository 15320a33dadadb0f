"""Archive of proposed and evaluated policies."""

import math
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
        self._entries.setdefault(_key(bits), (bits.copy(), math.nan))

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
            self._entries[key] = (bits.copy(), float(score))
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
        scored = (entry for entry in self._entries.values() if not math.isnan(entry[1]))
        return [bits.copy() for bits, _ in sorted(scored, key=lambda entry: -entry[1])[:count]]

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
        entries = zip(state["bits"].numpy(), state["scores"].tolist(), strict=True)
        self._entries = {_key(bits): (bits.copy(), score) for bits, score in entries}


def _key(bits: IntArray) -> bytes:
    return np.asarray(bits, dtype=np.int64).tobytes()

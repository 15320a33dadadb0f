"""What a method remembers: the policies that it proposed or was told of, and their scores."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from agents.base import IntArray
from agents.space import SearchSpace


class Archive:
    """The legal policies of a space that are known, in the order in which they became so.

    Deterministic evaluation is assumed: a policy told again keeps its first score. What the space does not allow, or
    what is over its budget, is passed over: news may come from searches with other budgets.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._entries: dict[bytes, tuple[IntArray, float]] = {}

    def __len__(self) -> int:
        """Number of known policies, scored or not."""
        return len(self._entries)

    def __contains__(self, bits: IntArray) -> bool:
        """Whether a policy [decision, 2] was proposed or told."""
        return _key(bits) in self._entries

    def add_pending(self, bits: IntArray) -> None:
        """Note that a policy was proposed; its score is NaN until it is told."""
        self._entries.setdefault(_key(bits), (bits.copy(), math.nan))

    def record(self, bits: IntArray, score: float) -> bool:
        """Note a policy's score; whether that was news. ValueError for a score that is not finite, or another shape."""
        if not math.isfinite(score):
            raise ValueError(f"a score must be finite, got {score}")
        fits, key = self._space.fits(bits), _key(bits)
        news = fits and (key not in self._entries or math.isnan(self._entries[key][1]))
        if news:
            self._entries[key] = (bits.copy(), float(score))
        return news

    @property
    def policies(self) -> list[IntArray]:
        """All known policies [decision, 2], oldest first."""
        return [bits.copy() for bits, _ in self._entries.values()]

    def top(self, count: int) -> list[IntArray]:
        """Up to `count` policies of known score, best first; of equal ones the older first."""
        scored = (entry for entry in self._entries.values() if not math.isnan(entry[1]))
        return [bits.copy() for bits, _ in sorted(scored, key=lambda entry: -entry[1])[:count]]

    @property
    def best(self) -> IntArray:
        """The best policy of known score; where there is none, the oldest. IndexError for an empty archive."""
        return (self.top(1) or self.policies)[0]

    def state_dict(self) -> dict[str, Any]:
        """Bits [policy, decision, 2] and scores [policy], NaN where unknown, both as tensors."""
        bits = np.array(self.policies, dtype=np.int64).reshape(len(self), len(self._space.names), 2)
        scores = [score for _, score in self._entries.values()]
        return {"bits": torch.from_numpy(bits), "scores": torch.tensor(scores, dtype=torch.float64)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Know what was known where `state_dict` was taken, and nothing else."""
        entries = zip(state["bits"].numpy(), state["scores"].tolist(), strict=True)
        self._entries = {_key(bits): (bits.copy(), score) for bits, score in entries}


def _key(bits: IntArray) -> bytes:
    return np.asarray(bits, dtype=np.int64).tobytes()

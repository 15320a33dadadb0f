"""Scores of evaluated policies that the model-based search learns from."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from agents.archive import CAPACITY, best_and_latest
from agents.base import FloatArray, IntArray
from agents.policy_keys import from_key, to_key
from agents.space import SearchSpace


class Observations:
    """Policies with their scores, in the order in which they were observed.

    At twice `agents.archive.CAPACITY` policies, all but `CAPACITY` of them are forgotten: those of scores near the best
    and the latest stay.

    Args:
        space: Search space with the budgets.

    Attributes:
        count: Number of different policies so far, forgotten ones included.
        best: The best policy within the budgets with its score; None before there is one.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._scores: dict[bytes, float] = {}
        self.count = 0
        self.best: tuple[IntArray, float] | None = None

    def __contains__(self, key: bytes) -> bool:
        """Whether the policy of a key of `agents.policy_keys` was observed."""
        return key in self._scores

    def add(self, bits: IntArray, score: float) -> bool:
        """Add a policy, or replace its score.

        Args:
            bits: The policy, [decision, 2].
            score: Its score.

        Returns:
            Whether it is the best so far within the budgets.
        """
        key = to_key(bits)
        self.count += key not in self._scores
        self._scores[key] = float(score)
        is_best = self._update_best(bits, score)
        if len(self._scores) >= 2 * CAPACITY:
            self._scores = {kept: self._scores[kept] for kept in self._nearest_and_latest(CAPACITY)}
        return is_best

    def select(self, count: int) -> tuple[IntArray, FloatArray]:
        """Select observations: half of them of scores nearest to the best within the budgets, the others the latest.

        Args:
            count: Maximum number of observations.

        Returns:
            Policies [policy, decision, 2] in the order of their observation, and their scores [policy].
        """
        kept = self._nearest_and_latest(count)
        return np.array([from_key(key) for key in kept]), np.array([self._scores[key] for key in kept])

    def state_dict(self) -> dict[str, Any]:
        """Return the policies, their scores and the count, as entries of the state of the method."""
        bits = np.frombuffer(b"".join(self._scores), dtype=np.uint8).reshape(-1, len(self._space.names), 2)
        scores = torch.tensor(list(self._scores.values()), dtype=torch.float64)
        return {"told": torch.tensor(bits), "scores": scores, "told_count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state returned by `state_dict`."""
        scores = torch.as_tensor(state["scores"], dtype=torch.float64).tolist()
        self._scores = dict(zip((to_key(bits.numpy()) for bits in state["told"]), scores, strict=True))
        self.count = state.get("told_count", len(scores))  # states of earlier releases have all observations
        self.best = None
        for key, score in self._scores.items():
            self._update_best(from_key(key), score)

    def _update_best(self, bits: IntArray, score: float) -> bool:
        """Update the best policy; return whether it changed."""
        better = self._space.fits(bits) and (self.best is None or score > self.best[1])
        if better:
            self.best = (np.array(bits, dtype=np.int64), float(score))
        return better

    def _nearest_and_latest(self, count: int) -> list[bytes]:
        keys, scores = list(self._scores), np.array(list(self._scores.values()))
        best = scores.max() if self.best is None else self.best[1]
        return [keys[number] for number in best_and_latest(np.abs(scores - best), count)]

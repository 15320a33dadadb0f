"""The rival that every other method has to beat: uniform actions."""

from collections.abc import Mapping
from typing import Any

import torch

from agents.base import FloatArray, Transition


class RandomSearch:
    """An `Agent` that answers every observation with a uniform number and learns nothing.

    >>> import numpy as np
    >>> agent = RandomSearch(seed=0)
    >>> 0 <= agent.act(np.zeros(10, dtype=np.float32)) < 1
    True
    """

    def __init__(self, seed: int = 0) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def act(self, observation: FloatArray) -> float:  # noqa: ARG002  # chance looks at nothing
        """A uniform number in [0, 1)."""
        return torch.rand((), generator=self._generator).item()

    def observe(self, transition: Transition) -> None:
        """Nothing to be learned from it."""

    def end_episode(self) -> Mapping[str, float]:
        """No losses."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The generator's state."""
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state_dict` was taken."""
        self._generator.set_state(state["generator"])

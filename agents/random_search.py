"""Random search: uniform actions, the baseline of all other methods."""

from collections.abc import Mapping
from typing import Any

import torch

from agents.base import Float32Array, Transition


class RandomSearch:
    """`Agent` that returns uniform actions and learns nothing.

    Args:
        seed: Seed of the actions.

    Example:
        >>> import numpy as np
        >>> agent = RandomSearch(seed=0)
        >>> 0 <= agent.act(np.zeros(10, dtype=np.float32)) < 1
        True
    """

    def __init__(self, seed: int = 0) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def act(self, observation: Float32Array) -> float:  # noqa: ARG002  # part of the protocol
        """Return a uniform number in [0, 1)."""
        return torch.rand((), generator=self._generator).item()

    def observe(self, transition: Transition) -> None:
        """Do nothing."""

    def end_episode(self) -> Mapping[str, float]:
        """Return no losses."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the generator."""
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state returned by `state_dict`."""
        self._generator.set_state(state["generator"])

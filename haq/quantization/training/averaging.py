"""Exponential moving average of trainable parameters."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class MovingAverage:
    """Exponential moving average of a network's parameters.

    The effective decay is smaller in the first steps, which reduces the weight of the initial values. Buffers are not
    averaged: batch norms are re-estimated after `apply`.

    Args:
        network: Network that is trained.
        decay: Decay per step, in [0, 1).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._parameters = dict(network.named_parameters())
        self._decay, self._steps = decay, 0
        self._averages = {name: value.detach().clone() for name, value in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Update the averages after a step."""
        self._steps += 1
        decay = min(self._decay, self._steps / (self._steps + 9))
        for name, value in self._parameters.items():
            self._averages[name].lerp_(value, 1 - decay)

    @torch.no_grad()
    def apply(self) -> None:
        """Copy the averages into the network."""
        for name, value in self._parameters.items():
            value.copy_(self._averages[name])

    def state_dict(self) -> dict[str, Tensor | int]:
        """Return averages by name, and the number of steps."""
        return {**self._averages, "": self._steps}

    def load_state_dict(self, state: Mapping[str, Tensor | int]) -> None:
        """Restore the state.

        Args:
            state: Result of `state_dict`.
        """
        self._steps = int(state[""])
        for name, average in self._averages.items():
            average.copy_(torch.as_tensor(state[name]))

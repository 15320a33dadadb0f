"""A moving average of everything that learns."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class MovingAverage:
    """Averages of a network's parameters with a decay in [0, 1), faster over the first steps so as to forget the start.

    Buffers are not averaged: batch norms are to be re-estimated on the average.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._parameters = dict(network.named_parameters())
        self._decay, self._steps = decay, 0
        self._averages = {name: value.detach().clone() for name, value in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take one more step into the average."""
        self._steps += 1
        decay = min(self._decay, self._steps / (self._steps + 9))
        for name, value in self._parameters.items():
            self._averages[name].lerp_(value, 1 - decay)

    @torch.no_grad()
    def apply(self) -> None:
        """Put the averages into the network."""
        for name, value in self._parameters.items():
            value.copy_(self._averages[name])

    def state_dict(self) -> dict[str, Tensor | int]:
        """Averages by name, and the number of steps."""
        return {**self._averages, "": self._steps}

    def load_state_dict(self, state: Mapping[str, Tensor | int]) -> None:
        """Go on where `state_dict` was taken."""
        self._steps = int(state[""])
        for name, average in self._averages.items():
            average.copy_(torch.as_tensor(state[name]))

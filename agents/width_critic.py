"""Critic of an action that stands for a width: one value for each width, linear in between."""

import torch
from torch import Tensor

from agents.mlp import MLP, Adam
from agents.simulated_rollouts import LOADS, NOT_SELECTABLE, WIDTHS

_LARGEST_ERROR = 2.0
"""Error beyond which its gradient is constant (Huber's loss): collapsed rollouts do not dominate the others."""


class WidthCritic:
    """Value network with one output for each width.

    An action a in [0, 1] stands for the width 0.5 + 8 a. Its value is interpolated between those of the nearest
    selectable widths on either side, so that the gradient with respect to the action tells which of them is better.

    Args:
        network: Network from observations [batch, OBSERVATION_SIZE] to values [batch, WIDTHS].
        learning_rate: Step size of Adam.
    """

    def __init__(self, network: MLP, learning_rate: float) -> None:
        self.network = network
        self.adam = Adam(network, learning_rate)

    def fit(self, observations: Tensor, widths: Tensor, targets: Tensor) -> None:
        """Take one optimiser step on Huber's loss of the values of executed widths.

        Args:
            observations: [batch, OBSERVATION_SIZE].
            widths: Executed bits, int64 [batch, 1].
            targets: Returns [batch, 1].
        """
        activations = self.network.forward(observations)
        error = activations[-1].gather(1, widths - 1) - targets
        step = error.clamp(-_LARGEST_ERROR, _LARGEST_ERROR) * (2 / len(error))
        self.network.backward(activations, torch.zeros_like(activations[-1]).scatter_(1, widths - 1, step))
        self.adam.step()

    def value_and_gradient(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the mean value of a batch and its gradient, as `agents.actor_critic.Values` describes.

        Beyond the narrowest and the widest selectable width values are extrapolated.
        """
        values = self.network.forward(observations)[-1]
        position = actions * WIDTHS - 0.5
        below, above = _neighbours(observations[:, LOADS] < NOT_SELECTABLE, position)
        left, right = values.gather(1, below), values.gather(1, above)
        slope = (right - left) / (above - below).clamp(min=1)
        return (left + (position - below) * slope).mean(), slope * (WIDTHS / len(actions))


def _neighbours(selectable: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
    """Find the two selectable widths, as indices, between which a position lies, or to which it is nearest.

    Args:
        selectable: Mask [batch, WIDTHS].
        position: Positions [batch, 1], 0 for the first width.

    Returns:
        Indices [batch, 1] of both; twice the same where a single width is selectable.
    """
    index = torch.arange(WIDTHS).expand(selectable.shape)
    narrowest = torch.where(selectable, index, WIDTHS - 1).amin(1, keepdim=True)
    widest = torch.where(selectable, index, 0).amax(1, keepdim=True)
    behind = selectable & (index < widest) & (index <= position)
    below = torch.where(behind, index, narrowest).amax(1, keepdim=True)
    above = torch.where(selectable & (index > below), index, widest).amin(1, keepdim=True)
    return below, above

"""The two networks of an actor-critic agent, each with its step of learning, and their slow copies."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from agents.mlp import MLP, Adam
from agents.replay import Steps


class Critic:
    """Expects a return of an observation and an action."""

    def __init__(self, network: MLP, learning_rate: float) -> None:
        self.network = network
        self.adam = Adam(network, learning_rate)

    def fit(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """One step on the mean squared error of inputs [batch, observation_size + 1]; returns the error before it."""
        activations = self.network.forward(inputs)
        error = activations[-1] - targets
        self.network.backward(activations, error * (2 / len(error)))
        self.adam.step()
        return error.square().mean()

    def value_and_gradient(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """The mean value over a batch, and its gradient for each action [batch, 1]."""
        activations = self.network.forward(torch.cat((observations, actions), dim=1))
        values = activations[-1]
        gradient = self.network.input_gradient(activations, torch.full_like(values, 1 / len(values)))
        return values.mean(), gradient[:, -1:]


class Actor:
    """Chooses an action in [0, 1]: a sigmoid over the network's output."""

    def __init__(self, network: MLP, learning_rate: float, *, inverted: bool) -> None:
        self.network = network
        self.adam = Adam(network, learning_rate)
        self._inverted = inverted

    def update(self, observations: Tensor, critic: Critic) -> Tensor:
        """One step towards actions that the critic values more; returns the loss before it, minus their mean value."""
        activations = self.network.forward(observations)
        actions = activations[-1].sigmoid()
        value, ascent = critic.value_and_gradient(observations, actions)
        self.network.backward(activations, -ascent * self._slope(actions, ascent))
        self.adam.step()
        return -value

    def _slope(self, actions: Tensor, ascent: Tensor) -> Tensor:
        """What stands for the derivative of the action by the network's output."""
        if self._inverted:
            return torch.where(ascent > 0, 1 - actions, actions)
        return actions * (1 - actions)


class TargetNetworks:
    """Slow copies of actor and critic, which say what the steps still to come are worth."""

    def __init__(self, actor: MLP, critic: MLP, tau: float) -> None:
        self._pairs = {"actor": (actor, actor.copy()), "critic": (critic, critic.copy())}
        self._tau = tau

    def next_values(self, steps: Steps) -> Tensor:
        """Value [batch, 1] of each next observation; 0 where the episode ended."""
        actions = self._pairs["actor"][1].forward(steps.next_observations)[-1].sigmoid()
        inputs = torch.cat((steps.next_observations, actions), dim=1)
        return steps.continues * self._pairs["critic"][1].forward(inputs)[-1]

    def soft_update(self) -> None:
        """Move by the fraction tau towards the networks that are being trained."""
        for network, target in self._pairs.values():
            target.parameters.lerp_(network.parameters, self._tau)

    def state_dict(self) -> dict[str, Any]:
        """The parameters of both copies."""
        return {name: target.state_dict() for name, (_, target) in self._pairs.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        for name, (_, target) in self._pairs.items():
            target.load_state_dict(state[name])

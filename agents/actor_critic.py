"""Actor and critic networks with their training steps, and target networks."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from agents.mlp import MLP, Adam
from agents.replay import Steps


class Values(Protocol):
    """Differentiable values of actions."""

    def value_and_gradient(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the mean value of a batch and its gradient with respect to the actions.

        Args:
            observations: [batch, observation_size].
            actions: [batch, 1].

        Returns:
            Mean value, and gradient [batch, 1].
        """
        ...


class Critic:
    """Value network: predicts the return of an observation and an action.

    Args:
        network: Network from inputs [batch, observation_size + 1] to values [batch, 1].
        learning_rate: Step size of Adam.
    """

    def __init__(self, network: MLP, learning_rate: float) -> None:
        self.network = network
        self.adam = Adam(network, learning_rate)

    def fit(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Take one optimiser step on the mean squared error.

        Args:
            inputs: Observations and actions, [batch, observation_size + 1].
            targets: Returns, [batch, 1].

        Returns:
            Mean squared error before the step.
        """
        activations = self.network.forward(inputs)
        error = activations[-1] - targets
        self.network.backward(activations, error * (2 / len(error)))
        self.adam.step()
        return error.square().mean()

    def value_and_gradient(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the mean value of a batch and its gradient, as `Values` describes."""
        activations = self.network.forward(torch.cat((observations, actions), dim=1))
        values = activations[-1]
        gradient = self.network.input_gradient(activations, torch.full_like(values, 1 / len(values)))
        return values.mean(), gradient[:, -1:]


class Actor:
    """Policy network: a sigmoid over the network's output gives an action in [0, 1].

    Args:
        network: Network from observations [batch, observation_size] to logits [batch, 1].
        learning_rate: Step size of Adam.
        inverted: Use inverting gradients instead of the derivative of the sigmoid.
    """

    def __init__(self, network: MLP, learning_rate: float, *, inverted: bool) -> None:
        self.network = network
        self.adam = Adam(network, learning_rate)
        self._inverted = inverted

    def update(self, observations: Tensor, critic: Values) -> Tensor:
        """Take one optimiser step towards actions of higher value.

        Args:
            observations: [batch, observation_size].
            critic: Critic that values the actions.

        Returns:
            Loss before the step: the negated mean value.
        """
        activations = self.network.forward(observations)
        actions = activations[-1].sigmoid()
        value, ascent = critic.value_and_gradient(observations, actions)
        self.network.backward(activations, -ascent * self._slope(actions, ascent))
        self.adam.step()
        return -value

    def _slope(self, actions: Tensor, ascent: Tensor) -> Tensor:
        """Derivative of the action with respect to the logit, or its substitute with inverting gradients."""
        if self._inverted:
            return torch.where(ascent > 0, 1 - actions, actions)
        return actions * (1 - actions)


class TargetNetworks:
    """Slowly updated copies of actor and critic, used for bootstrapped targets.

    Args:
        actor: Network that is trained.
        critic: Network that is trained.
        tau: Fraction of the way towards the trained networks at each update.
    """

    def __init__(self, actor: MLP, critic: MLP, tau: float) -> None:
        self._pairs = {"actor": (actor, actor.copy()), "critic": (critic, critic.copy())}
        self._tau = tau

    def next_values(self, steps: Steps) -> Tensor:
        """Compute the value of each next observation; 0 where the episode ended.

        Args:
            steps: Batch of steps.

        Returns:
            Values [batch, 1].
        """
        actions = self._pairs["actor"][1].forward(steps.next_observations)[-1].sigmoid()
        inputs = torch.cat((steps.next_observations, actions), dim=1)
        return steps.continues * self._pairs["critic"][1].forward(inputs)[-1]

    def soft_update(self) -> None:
        """Move the copies by the fraction tau towards the trained networks."""
        for network, target in self._pairs.values():
            target.parameters.lerp_(network.parameters, self._tau)

    def state_dict(self) -> dict[str, Any]:
        """Return the parameters of both copies."""
        return {name: target.state_dict() for name, (_, target) in self._pairs.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state returned by `state_dict`."""
        for name, (_, target) in self._pairs.items():
            target.load_state_dict(state[name])

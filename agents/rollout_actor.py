"""Actor-critic of simulated rollouts: a DDPG whose rewards tell at once what each step lost.

With such rewards (`agents.simulated_rollouts`) the critic learns the reward of the step alone, a discount of 0: no
targets are bootstrapped, so that no target networks are needed. Observations do not depend on the number of decisions
or on the device, so that one actor serves all networks; `pretrained_actor.safetensors` was trained on random problems
(`scripts/experiments/pretrain_actor.py`), and training goes on in every search.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Generator, Tensor

from agents.actor_critic import Actor
from agents.base import Float32Array
from agents.mlp import MLP
from agents.simulated_rollouts import OBSERVATION_SIZE, WIDTHS, Experience
from agents.width_critic import WidthCritic

PRETRAINED = Path(__file__).with_name("pretrained_actor.safetensors")
_HIDDEN = (64, 64)
_REWARD_SCALE = 5.0
_BATCH = 256


class RolloutActor:
    """Actor and critic over the observations of `agents.simulated_rollouts`.

    Args:
        learning_rate: Step size of both networks.
        generator: Source of all random numbers.
    """

    def __init__(self, *, learning_rate: float, generator: Generator) -> None:
        self._generator = generator
        self._actor = Actor(MLP((OBSERVATION_SIZE, *_HIDDEN, 1), generator), learning_rate, inverted=True)
        self._critic = WidthCritic(MLP((OBSERVATION_SIZE, *_HIDDEN, WIDTHS), generator), learning_rate)

    def load_pretrained(self) -> None:
        """Start from the networks that were trained on random problems."""
        self.load_parameters(load_file(PRETRAINED))

    @torch.inference_mode()
    def act(self, observations: Float32Array) -> Tensor:
        """Return actions without noise.

        Args:
            observations: Array [rollout, OBSERVATION_SIZE].

        Returns:
            Actions [rollout] in [0, 1]; action a stands for the width 0.5 + 8 a.
        """
        return self._actor.network.forward(torch.from_numpy(observations))[-1].sigmoid()[:, 0]

    @torch.inference_mode()
    def learn(self, experience: Experience, updates: int) -> None:
        """Update critic and actor on steps of simulated rollouts.

        Args:
            experience: The steps.
            updates: Number of optimiser steps.
        """
        observations = torch.from_numpy(experience.observations)
        widths = torch.from_numpy(experience.widths)[:, None]
        # A collapsed policy loses a thousand times the least loss; how much does not matter.
        targets = torch.from_numpy(experience.rewards).clamp(-1, 1)[:, None] * _REWARD_SCALE
        for _ in range(updates):
            index = torch.randint(len(observations), (_BATCH,), generator=self._generator)
            self._critic.fit(observations[index], widths[index], targets[index])
            self._actor.update(observations[index], self._critic)

    def set_learning_rate(self, learning_rate: float) -> None:
        """Change the step size of both networks.

        Args:
            learning_rate: Step size of the next updates.
        """
        self._actor.adam.learning_rate = self._critic.adam.learning_rate = learning_rate

    def parameters(self) -> dict[str, Tensor]:
        """Return a copy of the parameters of both networks, as `PRETRAINED` holds them."""
        return {name: network.parameters.clone() for name, network in self._networks().items()}

    def load_parameters(self, parameters: Mapping[str, Tensor]) -> None:
        """Copy the parameters of both networks.

        Args:
            parameters: Vectors by name, as `parameters` returns them.

        Raises:
            ValueError: The networks have other sizes.
        """
        for name, network in self._networks().items():
            network.load_state_dict({"parameters": parameters[name]})

    def _networks(self) -> dict[str, MLP]:
        return {"actor": self._actor.network, "critic": self._critic.network}

    def state_dict(self) -> dict[str, Any]:
        """Return both networks and their optimisers."""
        return {
            **{name: network.state_dict() for name, network in self._networks().items()},
            "actor_adam": self._actor.adam.state_dict(),
            "critic_adam": self._critic.adam.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state returned by `state_dict`."""
        for name, network in self._networks().items():
            network.load_state_dict(state[name])
        self._actor.adam.load_state_dict(state["actor_adam"])
        self._critic.adam.load_state_dict(state["critic_adam"])

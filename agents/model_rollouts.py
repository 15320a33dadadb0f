"""Actor-critic trained on simulated rollouts whose returns a model predicts, without evaluating any policy.

Actor and critic are those of `agents.ddpg`: the critic learns the rank of the return, the actor uses inverting
gradients. Each rollout is stored with its policy, so that all returns can be updated whenever the model changes.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from agents.actor_critic import Actor, Critic
from agents.base import Float32Array, IntArray, Rollout, RolloutSimulator
from agents.ddpg import unit_ranks
from agents.ddpg_config import DDPGConfig
from agents.mlp import MLP
from agents.noise import decayed_sigma, truncated_normal


@dataclass(frozen=True, slots=True, eq=False)
class _Episode:
    bits: IntArray
    inputs: Tensor
    """[step, observation_size + 1]: observation and action."""


class ModelRollouts:
    """Replay buffer of simulated rollouts, and the actor-critic that learns from them.

    Args:
        simulator: Environment without evaluation.
        config: Settings of the actor-critic.
        generator: Source of all random numbers.
    """

    def __init__(self, simulator: RolloutSimulator, config: DDPGConfig, generator: Generator) -> None:
        self._simulator, self._config, self._generator = simulator, config, generator
        size = simulator.observation_size
        self._actor = Actor(MLP((size, *config.hidden, 1), generator), config.actor_lr, inverted=True)
        self._critic = Critic(MLP((size + 1, *config.hidden, 1), generator), config.critic_lr)
        self._episodes: deque[_Episode] = deque(maxlen=config.replay_episodes)
        self._rollouts = 0

    def add(self, policies: IntArray) -> None:
        """Add the rollouts that end in given policies.

        Args:
            policies: Legal policies [policy, decision, 2].
        """
        for bits in policies:
            self._remember(self._simulator.rollout_of(bits))

    @torch.inference_mode()
    def rollout(self) -> IntArray:
        """Roll out the actor with exploration noise, and add the rollout; returns its policy [decision, 2]."""
        sigma = decayed_sigma(self._config.sigma, self._config.sigma_decay, self._rollouts)
        sigma = max(sigma, self._config.sigma_min)
        self._rollouts += 1

        def act(observation: Float32Array) -> float:
            inputs = torch.as_tensor(observation, dtype=torch.float32)[None]
            mean = self._actor.network.forward(inputs)[-1].sigmoid().item()
            return truncated_normal(mean, sigma, self._generator)

        rollout = self._simulator.rollout(act)
        self._remember(rollout)
        return rollout.bits

    @torch.inference_mode()
    def learn(self, losses: Callable[[IntArray], NDArray[np.float64]], updates: int) -> None:
        """Update critic and actor on the stored rollouts.

        Args:
            losses: Function from policies [rollout, decision, 2] to expected losses [rollout].
            updates: Number of optimiser steps.
        """
        if not self._episodes:
            return
        expected = torch.tensor(-losses(np.stack([episode.bits for episode in self._episodes])), dtype=torch.float32)
        inputs = torch.stack([episode.inputs for episode in self._episodes])
        returns = unit_ranks(expected[:, None]).expand(-1, inputs.shape[1]).reshape(-1, 1)
        inputs = inputs.flatten(0, 1)
        for _ in range(updates):
            index = torch.randint(len(inputs), (self._config.batch_size,), generator=self._generator)
            batch = inputs[index]
            self._critic.fit(batch, returns[index])
            self._actor.update(batch[:, :-1], self._critic)

    def _remember(self, rollout: Rollout) -> None:
        observations, actions = torch.as_tensor(rollout.observations), torch.as_tensor(rollout.actions)[:, None]
        inputs = torch.cat((observations.float(), actions.float()), dim=1)
        self._episodes.append(_Episode(rollout.bits.copy(), inputs))

    def _parts(self) -> dict[str, Any]:
        return {
            "actor": self._actor.network,
            "actor_adam": self._actor.adam,
            "critic": self._critic.network,
            "critic_adam": self._critic.adam,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return both networks with their optimisers, the stored rollouts, and the number of rollouts of the actor."""
        return {
            **{name: part.state_dict() for name, part in self._parts().items()},
            "episodes": [{"bits": torch.tensor(each.bits), "inputs": each.inputs.clone()} for each in self._episodes],
            "imagined": self._rollouts,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state returned by `state_dict`."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self._episodes.clear()
        episodes = ((each["bits"].numpy().copy(), each["inputs"].clone()) for each in state["episodes"])
        self._episodes.extend(_Episode(*each) for each in episodes)
        self._rollouts = state["imagined"]

"""DDPG on simulated rollouts: an actor steps through the layers under a model of the reward, and acts for any budget.

Between evaluations the actor is trained on simulated rollouts, each with a sample of the model (`agents.reward_model`)
and a budget drawn anew, so that one actor serves all budgets of the device. Its rollouts at the budgets of the search
are the candidates: without noise for the most probable model and for samples of it, and with a few steps changed at
random.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.actor_rollouts import ActorRollouts
from agents.base import IntArray, RolloutSimulator
from agents.knapsack import Knapsack
from agents.loss_terms import pair_losses
from agents.model_based import ModelBasedConfig, ModelBasedSearch, at_least
from agents.policy_keys import to_key
from agents.rollout_actor import RolloutActor
from agents.space import SearchSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutDDPGConfig(ModelBasedConfig):
    """Settings of `RolloutDDPG`.

    Args:
        changed_rollouts: Rollouts with changed steps per proposal.
        training_rollouts: Simulated rollouts of a round of training.
        training_rounds: Rounds of training per proposal.
        updates: Updates of actor and critic in each round.
        max_steps: Steps of simulation per proposal, on average: over many decisions, new rollouts are made at every
            second proposal only, at every third one, and so on; in between, candidates of earlier ones are left.
        learning_rate: Step size of both.
    """

    changed_rollouts: int = at_least(0, default=64)
    training_rollouts: int = at_least(1, default=64)
    training_rounds: int = at_least(0, default=1)
    updates: int = at_least(0, default=20)
    max_steps: int = at_least(1, default=80)
    learning_rate: float = 3e-4


class RolloutDDPG(ModelBasedSearch):
    """`Proposer` whose policies are rollouts of a DDPG actor.

    Args:
        space: Search space, with or without a measured prior.
        simulator: Environment of the rollouts.
        config: Settings.
        seed: Seed of all random numbers.

    Attributes:
        actor: Actor and critic.
        rollouts: Their simulated rollouts.
    """

    def __init__(
        self,
        space: SearchSpace,
        simulator: RolloutSimulator,
        *,
        config: RolloutDDPGConfig = RolloutDDPGConfig(),
        seed: int = 0,
    ) -> None:
        super().__init__(space, config=config, seed=seed)
        self._settings = config
        self.actor = RolloutActor(learning_rate=config.learning_rate, generator=self._generator)
        self.actor.load_pretrained()
        self._period = math.ceil(2 * len(space.names) * (config.training_rounds + 1) / config.max_steps)
        near = Knapsack(space).solve(pair_losses(self.model.theta[None]))[0]
        self.rollouts = ActorRollouts(space, simulator, self.actor, near)

    def _generated(self) -> Iterable[IntArray]:
        if self._observations.count % self._period and len(self._pool) > len(self._pending):
            return
        curves, generator = self.rollouts.curves(self._thetas()), self._numpy_generator()
        for _ in range(self._settings.training_rounds):
            experience = self.rollouts.explore(curves, generator, count=self._settings.training_rollouts)
            self.actor.learn(experience, self._settings.updates)
        policies = self.rollouts.act(curves, generator, changed=self._settings.changed_rollouts)
        different = {to_key(bits): bits for bits in policies}
        yield np.stack([self._space.project(bits) for bits in different.values()])

    def state_dict(self) -> dict[str, Any]:
        """Return everything but space and configuration."""
        return super().state_dict() | {"networks": self.actor.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state returned by `state_dict`; space and configuration must be equal."""
        super().load_state_dict(state)
        self.actor.load_state_dict(state["networks"])

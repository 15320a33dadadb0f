"""Deep deterministic policy gradient (DDPG) over the layers of a network, as in HAQ.

Sources: DDPG, Lillicrap et al. 2016 (arXiv 1509.02971); its use for bit widths, HAQ, Wang et al. 2019 (arXiv
1811.08886). `DDPGConfig.paper()` follows the latter. The defaults deviate from it where a search has only one reward
per episode and a few hundred episodes:

1. The critic learns the return itself. With no discount and one reward at the end, every step's return is known as soon
   as the episode is over: a target without bootstrapping has no bias from an untrained critic, needs no target
   networks, and does not sum the same reward repeatedly along the episode.
2. The critic learns the rank of a return in the replay buffer instead of its distance to a moving average: the scale is
   the same for every task, and one collapsed network cannot dominate all others.
3. The actor's gradient is scaled by the remaining range in its direction (inverting gradients, Hausknecht and Stone
   2016, arXiv 1511.04143) instead of the sigmoid's derivative, which vanishes for an actor at 0 or 1.
4. The actor's learning rate is 1e-3 instead of 1e-4: targets of unit scale that do not move allow it, and there are
   thousands of updates, not tens of thousands.
5. The noise decays by 0.96 per episode instead of 0.99, as a search has 100 to 300 episodes and not 600, but never
   below 0.05, a third of a bit in a range of 2 to 8: evaluating a policy twice gives no new information.
6. Two hidden layers of 64 units instead of 300: as good with the few hundred returns there are, and about five times
   as fast.
7. The replay buffer holds the executed action, after the budget rule, instead of the proposed one: a return belongs to
   the bits that were evaluated.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from agents.actor_critic import Actor, Critic, TargetNetworks
from agents.base import Float32Array, Transition
from agents.ddpg_config import DDPGConfig
from agents.mlp import MLP
from agents.noise import decayed_sigma, truncated_normal
from agents.replay import Replay, Steps


def unit_ranks(returns: Tensor) -> Tensor:
    """Replace returns by ranks of mean 0, and of standard deviation 1 if most differ; equal values have equal ranks.

    Args:
        returns: [step, 1].

    Returns:
        Scaled ranks [step, 1].

    Example:
        >>> unit_ranks(torch.tensor([[5.0], [-1.0], [5.0], [7.0]])).squeeze(1) / math.sqrt(3)
        tensor([ 0.0000, -0.7500,  0.0000,  0.7500])
    """
    values = returns.flatten().contiguous()
    ordered = values.sort().values
    below, up_to = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    # The mean rank of a value, as a fraction in (0, 1), is uniform: its variance is 1/12.
    return ((below + up_to) / len(values) - 1).mul_(math.sqrt(3)).view_as(returns)


class DDPG:
    """DDPG `Agent`: random during warm-up, then an actor with decaying noise; learns after every episode.

    Runs on the CPU in float32.

    Args:
        observation_size: Length of an observation.
        config: Settings.
        seed: Seed of initial parameters, warm-up, noise and batches.

    Example:
        >>> agent = DDPG(10, seed=1)
        >>> 0 <= agent.act(torch.zeros(10).numpy()) <= 1
        True
    """

    def __init__(
        self,
        observation_size: int,
        *,
        config: DDPGConfig = DDPGConfig(),  # noqa: B008  frozen
        seed: int = 0,
    ) -> None:
        self.config = config
        self._observation_size = observation_size
        self._generator = torch.Generator().manual_seed(seed)
        actor = MLP((observation_size, *config.hidden, 1), self._generator)
        critic = MLP((observation_size + 1, *config.hidden, 1), self._generator)
        self._actor = Actor(actor, config.actor_lr, inverted=config.actor_gradient == "inverted")
        self._critic = Critic(critic, config.critic_lr)
        self._targets = TargetNetworks(actor, critic, config.tau) if config.target == "bootstrap" else None
        self._replay = Replay(config.replay_episodes)
        self._baseline: float | None = None
        self._episodes = 0
        self._pending: list[Transition] = []

    def act(self, observation: Float32Array) -> float:
        """Return the next action in [0, 1].

        Raises:
            ValueError: The observation has another size or is not finite.
        """
        self._check(observation)
        return self._explore(observation)

    def _explore(self, observation: Float32Array) -> float:
        learned = self._episodes - self.config.warmup_episodes
        if learned < 0:
            return torch.rand((), generator=self._generator).item()
        inputs = torch.as_tensor(observation, dtype=torch.float32)[None]
        mean = self._actor.network.forward(inputs)[-1].sigmoid().item()
        sigma = decayed_sigma(self.config.sigma, self.config.sigma_decay, learned)
        return truncated_normal(mean, max(sigma, self.config.sigma_min), self._generator)

    def observe(self, transition: Transition) -> None:
        """Add an executed step to the current episode.

        Raises:
            ValueError: A number is not finite, or the action is outside [0, 1].
        """
        self._check(transition.observation)
        self._check(transition.next_observation)
        if not 0 <= transition.action <= 1:
            raise ValueError(f"an action must be in [0, 1], got {transition.action}")
        if not math.isfinite(transition.reward):
            raise ValueError(f"a reward must be finite, got {transition.reward}")
        self._pending.append(transition)

    def _check(self, observation: Float32Array) -> None:
        if observation.shape != (self._observation_size,) or not math.isfinite(observation.sum()):
            raise ValueError(f"an observation must be {self._observation_size} finite numbers, got {observation}")

    def end_episode(self) -> dict[str, float]:
        """Learn from the observed steps.

        Returns:
            Mean losses over the updates; empty during warm-up.

        Raises:
            ValueError: The last observed step does not terminate an episode.
        """
        if not self._pending or not self._pending[-1].terminated:
            raise ValueError("end_episode needs an observed episode whose last step is terminated")
        self._replay.add(self._episode_steps())
        updates = self.config.updates_per_step * len(self._pending)
        self._pending = []
        self._episodes += 1
        return self._learn(updates) if self._episodes >= self.config.warmup_episodes else {}

    def _episode_steps(self) -> Steps:
        """Return the observed episode, with proposed actions if so configured and all of them came from this agent."""
        steps = Steps.from_episode(self._pending)
        proposed = [each.proposed for each in self._pending if each.proposed is not None]
        if self.config.stored_action == "proposed" and len(proposed) == len(self._pending):
            steps.inputs[:, -1] = torch.tensor(proposed)
        return steps

    # Gradients are computed by hand; inference mode also avoids autograd's bookkeeping.
    @torch.inference_mode()
    def _learn(self, updates: int) -> dict[str, float]:
        steps = self._replay.steps()
        if self.config.scale == "rank":
            steps = steps._replace(returns=unit_ranks(steps.returns))
        losses = torch.zeros(2)
        for _ in range(updates):
            losses += self._update(steps.sample(self.config.batch_size, self._generator))
        actor_loss, critic_loss = (losses / updates).tolist()
        return {"actor_loss": actor_loss, "critic_loss": critic_loss}

    def _update(self, batch: Steps) -> Tensor:
        """Take one step of critic, actor and target networks; returns their losses before it."""
        targets = self._centred(batch.returns) if self.config.scale == "centred" else batch.returns
        if self._targets:
            targets = targets + self.config.gamma * self._targets.next_values(batch)
        critic_loss = self._critic.fit(batch.inputs, targets)
        actor_loss = self._actor.update(batch.observations, self._critic)
        if self._targets:
            self._targets.soft_update()
        return torch.stack((actor_loss, critic_loss))

    def _centred(self, returns: Tensor) -> Tensor:
        """Subtract the moving average of batch means, this batch included."""
        mean = returns.mean().item()
        before = mean if self._baseline is None else self._baseline
        self._baseline = before + self.config.baseline_alpha * (mean - before)
        return returns - self._baseline

    def _parts(self) -> dict[str, Any]:
        """Components with a state of their own, by name in `state_dict`."""
        parts = {
            "actor": self._actor.network,
            "actor_adam": self._actor.adam,
            "critic": self._critic.network,
            "critic_adam": self._critic.adam,
            "targets": self._targets,
            "replay": self._replay,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the configuration, at any point of an episode: tensors and plain scalars."""
        return {
            **{name: part.state_dict() for name, part in self._parts().items()},
            "generator": self._generator.get_state(),
            "baseline": self._baseline,
            "episodes": self._episodes,
            "pending": [_as_plain(transition) for transition in self._pending],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state returned by `state_dict`.

        Raises:
            ValueError: The networks have other sizes.
        """
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self._generator.set_state(state["generator"])
        self._baseline = state["baseline"]
        self._episodes = state["episodes"]
        self._pending = [_from_plain(plain) for plain in state["pending"]]


def _as_plain(transition: Transition) -> dict[str, Any]:
    """Convert a transition to tensors and scalars that `torch.load(weights_only=True)` accepts."""
    return {
        "observation": torch.tensor(transition.observation),
        "action": float(transition.action),
        "reward": float(transition.reward),
        "next_observation": torch.tensor(transition.next_observation),
        "terminated": bool(transition.terminated),
        "proposed": transition.proposed,
    }


def _from_plain(plain: Mapping[str, Any]) -> Transition:
    arrays = {name: plain[name].numpy() for name in ("observation", "next_observation")}
    return Transition(**{**plain, **arrays})

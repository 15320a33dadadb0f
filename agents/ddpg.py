"""Deep deterministic policy gradient over the layers of a network, as HAQ uses it.

Sources: DDPG, Lillicrap et al. 2016 (arXiv 1509.02971); its use for bit widths, HAQ, Wang et al. 2019 (arXiv
1811.08886). `DDPGConfig.paper()` follows the latter. The defaults deviate from it where a search has only one reward an
episode and a few hundred episodes:

1. The critic learns the return itself. With no discount and one reward at the end, every step's return is known as soon
   as the episode is over: a target without bootstrapping has no bias from an untrained critic, needs no target
   networks, and does not add the same reward up along the episode.
2. The critic sees the rank of a return among the remembered ones instead of its distance to a moving average: the same
   scale for every task, and one collapsed network cannot outweigh all others.
3. The actor's gradient is scaled by the room left in its direction (inverting gradients, Hausknecht and Stone 2016,
   arXiv 1511.04143) in place of the sigmoid's derivative: an actor driven to 0 or 1 can come back.
4. The actor's learning rate is 1e-3 instead of 1e-4: targets of unit scale that do not move allow it, and there are
   thousands of updates, not tens of thousands.
5. The noise decays by 0.96 an episode instead of 0.99, as a search has 100 to 300 episodes and not 600, but never below
   0.05, a third of a bit in a range of 2 to 8: a policy that is measured twice teaches nothing.
6. Two hidden layers of 64 units instead of 300: as good with the few hundred returns there are, and about five times
   as fast.
7. The replay holds the action as executed, after the budget rule, instead of the one proposed: a return belongs to the
   bits that earned it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor

from agents.actor_critic import Actor, Critic, TargetNetworks
from agents.base import FloatArray, Transition
from agents.mlp import MLP
from agents.noise import decayed_sigma, truncated_normal
from agents.replay import Replay, Steps


@dataclass(frozen=True, slots=True, kw_only=True)
class DDPGConfig:
    """Settings of `DDPG`; a value out of range raises ValueError.

    `target`: what the critic learns, the episode's `return`, or with `bootstrap` the return plus `gamma` times the
    target critic's value of the next step. `scale`: returns as `rank` among the remembered ones, or `centred` by the
    moving average of batch means, with weight `baseline_alpha` on the newest. `stored_action`: as `executed` or as
    `proposed`. `actor_gradient`: `inverted` or through the `sigmoid`. `gamma` and `tau` (the targets' step) are used by
    `bootstrap` alone, `baseline_alpha` by `centred`. The first `warmup_episodes` are random; then the noise's width is
    `sigma * sigma_decay**episode`, at least `sigma_min`.

    >>> DDPGConfig(batch_size=32).hidden
    (64, 64)
    >>> DDPGConfig(tau=2.0)
    Traceback (most recent call last):
    ValueError: tau must be in (0, 1], got 2.0
    """

    hidden: tuple[int, ...] = (64, 64)
    actor_lr: float = 1e-3
    critic_lr: float = 1e-3
    batch_size: int = 64
    updates_per_step: int = 1
    replay_episodes: int = 128
    warmup_episodes: int = 20
    sigma: float = 0.5
    sigma_decay: float = 0.96
    sigma_min: float = 0.05
    target: Literal["return", "bootstrap"] = "return"
    scale: Literal["rank", "centred"] = "rank"
    actor_gradient: Literal["inverted", "sigmoid"] = "inverted"
    stored_action: Literal["executed", "proposed"] = "executed"
    gamma: float = 1.0
    tau: float = 0.01
    baseline_alpha: float = 0.5

    def __post_init__(self) -> None:
        for name, (rule, holds) in _RULES.items():
            value = getattr(self, name)
            if not holds(value):
                raise ValueError(f"{name} must be {rule}, got {value!r}")

    @classmethod
    def paper(cls) -> Self:
        """The settings of HAQ's original: bootstrapped targets on the same reward at every step."""
        return cls(
            hidden=(300, 300),
            actor_lr=1e-4,
            sigma_decay=0.99,
            sigma_min=0.0,
            target="bootstrap",
            scale="centred",
            actor_gradient="sigmoid",
            stored_action="proposed",
        )


_Rule = tuple[str, Callable[[Any], bool]]
_COUNT: _Rule = ("an integer of at least 1", lambda value: isinstance(value, int) and value >= 1)
_POSITIVE: _Rule = ("positive and finite", lambda value: 0 < value < math.inf)
_WIDTH: _Rule = ("at least 0 and finite", lambda value: 0 <= value < math.inf)
_FRACTION: _Rule = ("in (0, 1]", lambda value: 0 < value <= 1)


def _one_of(*choices: str) -> _Rule:
    return f"one of {', '.join(choices)}", lambda value: value in choices


_RULES: dict[str, _Rule] = {
    "hidden": ("a tuple of integers of at least 1", lambda value: len(value) > 0 and all(map(_COUNT[1], value))),
    "actor_lr": _POSITIVE,
    "critic_lr": _POSITIVE,
    "batch_size": _COUNT,
    "updates_per_step": _COUNT,
    "replay_episodes": _COUNT,
    "warmup_episodes": ("an integer of at least 0", lambda value: isinstance(value, int) and value >= 0),
    "sigma": _WIDTH,
    "sigma_decay": _FRACTION,
    "sigma_min": _WIDTH,
    "target": _one_of("return", "bootstrap"),
    "scale": _one_of("rank", "centred"),
    "actor_gradient": _one_of("inverted", "sigmoid"),
    "stored_action": _one_of("executed", "proposed"),
    "gamma": ("in [0, 1]", lambda value: 0 <= value <= 1),
    "tau": _FRACTION,
    "baseline_alpha": _FRACTION,
}


def unit_ranks(returns: Tensor) -> Tensor:
    """Ranks of [step, 1] scaled to mean 0, and to standard deviation 1 where many differ; equal values stay equal.

    >>> unit_ranks(torch.tensor([[5.0], [-1.0], [5.0], [7.0]])).squeeze(1) / math.sqrt(3)
    tensor([ 0.0000, -0.7500,  0.0000,  0.7500])
    """
    values = returns.flatten().contiguous()
    ordered = values.sort().values
    below, up_to = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    # The middle of a value's ranks, as a fraction in (0, 1), is uniform: its variance is 1/12.
    return ((below + up_to) / len(values) - 1).mul_(math.sqrt(3)).view_as(returns)


class DDPG:
    """An `Agent`: random for the warm-up episodes, then its actor with decaying noise; learns after every episode.

    `observation_size`: the length of an observation. `seed` governs everything random: initial parameters, warm-up,
    noise and batches. Runs on the CPU in float32.

    >>> agent = DDPG(10, seed=1)
    >>> 0 <= agent.act(torch.zeros(10).numpy()) <= 1
    True
    """

    def __init__(self, observation_size: int, *, config: DDPGConfig = DDPGConfig(), seed: int = 0) -> None:
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
        self._proposed: list[float] = []
        self._pending: list[Transition] = []

    def act(self, observation: FloatArray) -> float:
        """The next action in [0, 1]; ValueError for an observation of another size or with NaN."""
        self._check(observation)
        action = self._explore(observation)
        self._proposed.append(action)
        return action

    def _explore(self, observation: FloatArray) -> float:
        learned = self._episodes - self.config.warmup_episodes
        if learned < 0:
            return torch.rand((), generator=self._generator).item()
        inputs = torch.as_tensor(observation, dtype=torch.float32)[None]
        mean = self._actor.network.forward(inputs)[-1].sigmoid().item()
        sigma = decayed_sigma(self.config.sigma, self.config.sigma_decay, learned)
        return truncated_normal(mean, max(sigma, self.config.sigma_min), self._generator)

    def observe(self, transition: Transition) -> None:
        """Take note of an executed step; ValueError for numbers that are not finite or an action outside [0, 1]."""
        self._check(transition.observation)
        self._check(transition.next_observation)
        if not 0 <= transition.action <= 1:
            raise ValueError(f"an action must be in [0, 1], got {transition.action}")
        if not math.isfinite(transition.reward):
            raise ValueError(f"a reward must be finite, got {transition.reward}")
        self._pending.append(transition)

    def _check(self, observation: FloatArray) -> None:
        if observation.shape != (self._observation_size,) or not math.isfinite(observation.sum()):
            raise ValueError(f"an observation must be {self._observation_size} finite numbers, got {observation}")

    def end_episode(self) -> dict[str, float]:
        """Learn from the observed steps; mean losses over the updates, none within the warm-up.

        ValueError if the last observed step is not the end of an episode.
        """
        if not self._pending or not self._pending[-1].terminated:
            raise ValueError("end_episode needs an observed episode whose last step is terminated")
        self._replay.add(self._remembered())
        updates = self.config.updates_per_step * len(self._pending)
        self._pending, self._proposed = [], []
        self._episodes += 1
        return self._learn(updates) if self._episodes >= self.config.warmup_episodes else {}

    def _remembered(self) -> Steps:
        """The observed episode; its actions as proposed if the configuration says so and all of them came from here."""
        steps = Steps.from_episode(self._pending)
        count = len(self._pending)
        if self.config.stored_action == "proposed" and len(self._proposed) >= count:
            # An episode that was broken off leaves proposals of its own behind: the last ones count.
            steps.inputs[:, -1] = torch.tensor(self._proposed[-count:])
        return steps

    # No gradient is recorded anyway; this also spares the bookkeeping that would allow one.
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
        """One step of critic, actor and target networks; the losses of actor and critic before it."""
        targets = self._centred(batch.returns) if self.config.scale == "centred" else batch.returns
        if self._targets:
            targets = targets + self.config.gamma * self._targets.next_values(batch)
        critic_loss = self._critic.fit(batch.inputs, targets)
        actor_loss = self._actor.update(batch.observations, self._critic)
        if self._targets:
            self._targets.soft_update()
        return torch.stack((actor_loss, critic_loss))

    def _centred(self, returns: Tensor) -> Tensor:
        """Returns minus the moving average of batch means, this batch included."""
        mean = returns.mean().item()
        before = mean if self._baseline is None else self._baseline
        self._baseline = before + self.config.baseline_alpha * (mean - before)
        return returns - self._baseline

    def _parts(self) -> dict[str, Any]:
        """What has a state of its own, by its name in `state_dict`."""
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
        """Everything but the configuration, at any point of an episode: tensors and plain scalars."""
        return {
            **{name: part.state_dict() for name, part in self._parts().items()},
            "generator": self._generator.get_state(),
            "baseline": self._baseline,
            "episodes": self._episodes,
            "proposed": list(self._proposed),
            "pending": [_as_plain(transition) for transition in self._pending],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state_dict` was taken; ValueError if that agent's networks had other sizes."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self._generator.set_state(state["generator"])
        self._baseline = state["baseline"]
        self._episodes = state["episodes"]
        self._proposed = list(state["proposed"])
        self._pending = [_from_plain(plain) for plain in state["pending"]]


def _as_plain(transition: Transition) -> dict[str, Any]:
    """A transition with tensors for its arrays, as `torch.load(weights_only=True)` accepts it."""
    return {
        "observation": torch.tensor(transition.observation),
        "action": float(transition.action),
        "reward": float(transition.reward),
        "next_observation": torch.tensor(transition.next_observation),
        "terminated": bool(transition.terminated),
    }


def _from_plain(plain: Mapping[str, Any]) -> Transition:
    arrays = {name: plain[name].numpy() for name in ("observation", "next_observation")}
    return Transition(**{**plain, **arrays})

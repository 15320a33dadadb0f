"""Settings of DDPG, and their valid ranges."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class DDPGConfig:
    """Settings of `DDPG`.

    Args:
        hidden: Units of the hidden layers of both networks.
        actor_lr: Learning rate of the actor.
        critic_lr: Learning rate of the critic.
        batch_size: Steps per update.
        updates_per_step: Updates after an episode, per step of the episode.
        replay_episodes: Capacity of the replay buffer.
        warmup_episodes: Initial episodes with uniformly random actions.
        sigma: Initial width of the exploration noise: `sigma * sigma_decay**episode`, at least `sigma_min`.
        sigma_decay: Decay of the width per episode after the warm-up.
        sigma_min: Smallest width.
        target: What the critic learns: the episode's `return`, or with `bootstrap` the return plus `gamma` times the
            target critic's value of the next step.
        scale: Returns as `rank` in the replay buffer, or `centred` by the moving average of batch means.
        actor_gradient: `inverted`, or through the `sigmoid`.
        stored_action: Action in the replay buffer: as `executed` or as `proposed`.
        gamma: Discount; used with `bootstrap` only.
        tau: Fraction of the way of each target update; used with `bootstrap` only.
        baseline_alpha: Weight of the newest batch in the moving average; used with `centred` only.

    Raises:
        ValueError: A value is out of range.

    Example:
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
        """Settings of the original HAQ: bootstrapped targets on the same reward at every step."""
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

"""The walk over the layers as a gymnasium environment."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from envs.action import action_of_bits, bits_of_action
from envs.budget import lower_in_sequence, spend_rest
from envs.choices import AllowedBits, Budget, Choices, IntArray, choices
from envs.observation import FloatArray, ObservationKind, layer_features, observation_size, rich_features
from envs.reward import accuracy_reward
from hardware_sim.cost import CostTable
from hardware_sim.layer import Layer

BudgetRule = Literal["cost-aware", "haq"]
BUDGET_RULES: tuple[BudgetRule, ...] = get_args(BudgetRule)


@dataclass(frozen=True, slots=True)
class EnvConfig:
    """What may be varied in the environment: its observation, and the rule that keeps the budget."""

    observation: ObservationKind = "haq"
    rule: BudgetRule = "cost-aware"


@dataclass(frozen=True, slots=True)
class ExecutedStep:
    """A step as the final policy has it: what was observed, the action in [0, 1], and the bits it stands for."""

    observation: FloatArray
    action: float
    bits: int


class BitAllocationEnv(gym.Env[FloatArray, FloatArray]):
    """Give every layer of a network its bits, one decision at a time, under a budget (HAQ, CVPR 2019, section 3).

    **Episode.** The walk visits the layers in the order of execution; layers tied to an earlier one are not visited,
    they take its bits. Each layer is visited twice, for its weights and for its activations, or once where the
    activations are fixed. After the last step the episode is `terminated`; it is never truncated.

    **Action.** `Box(0, 1, (1,))`; see `envs.action`. Bits that are not allowed at this point are replaced by the
    nearest that are, and the action by one that stands for them: the middle of their range, or the end of [0, 1] for
    bits that are pinned outside of it.

    **Observation.** `Box(0, 1, (10,))` for `haq`, `(14,)` for `rich`; every entry is scaled to [0, 1] over the layers.

    | entry | convolution | fully connected |
    |---|---|---|
    | 0 | position of the layer | the same |
    | 1 | input channels | inputs |
    | 2 | output channels | outputs |
    | 3 | kernel size, the longer side | 1 |
    | 4 | stride, the longer side | 0 |
    | 5 | input feature-map size, the longer side | positions |
    | 6 | number of weights | the same |
    | 7 | 1 if depthwise | 0 |
    | 8 | 1 on a weight step, 0 on an activation step | the same |
    | 9 | previous action as executed; 1 before the first | the same |
    | 10 | `rich`: logarithm of the MACs | the same |
    | 11 | `rich`: the layer's share of the dearest layer's cost | the same |
    | 12 | `rich`: the share of the cost that is still to be decided | the same |
    | 13 | `rich`: budget left beyond the cheapest way to finish, as part of the budget | the same |

    **Budget.** Rule `cost-aware` drops pairs of bits that another pair beats at no more cost, allows at each step only
    bits after which the rest can still fit, and spends what is left where a further bit is cheapest: the final policy
    is always within every budget. Rule `haq` walks freely and lowers bits in sequence at the end.

    **Reward.** 0 before the last step, then `reward(evaluate(bits))`, with `bits` [layer, 2] the final policy.

    **Info.** After the last step: `bits` (int64 [layer, 2]), `score` (what `evaluate` returned), `fits`
    (whether the policy is within every budget), and `executed`, one
    `ExecutedStep` for each step, with the actions and observations that lead to the final policy.

    Raises BudgetError when even the cheapest policy exceeds a budget, and ValueError for pins that name no layer.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  the declaration is gymnasium's

    def __init__(
        self,
        layers: Sequence[Layer],
        table: CostTable,
        budget: Budget | Sequence[Budget],
        evaluate: Callable[[IntArray], float],
        *,
        reward: Callable[[float], float] = accuracy_reward(1.0),  # noqa: B008  a pure function
        allowed: AllowedBits = AllowedBits(),  # noqa: B008  frozen
        config: EnvConfig = EnvConfig(),
    ) -> None:
        if tuple(layers) != table.layers:
            raise ValueError("the cost table is of other layers than the environment's")
        budgets = [budget] if isinstance(budget, Budget) else list(budget)
        every_choice = choices(table, budgets, allowed)
        self.choice: Choices = every_choice.without_dominated() if config.rule == "cost-aware" else every_choice
        self._reserve = self.choice.reserve
        self._allowed, self._config = allowed, config
        self._evaluate, self._reward = evaluate, reward
        decided = [layer for layer in layers if not layer.tied_to]
        self._features = layer_features(decided)
        self._rich = rich_features(decided, self.choice)
        self._columns = (0, 1) if allowed.a_bits is None else (0,)
        self.observation_space = gym.spaces.Box(0.0, 1.0, (observation_size(config.observation),), np.float32)
        self.action_space = gym.spaces.Box(0.0, 1.0, (1,), np.float32)
        self._walk = _Walk(self._reserve)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._walk = _Walk(self._reserve)
        return self._observe(self._walk), {}

    def step(self, action: NDArray[np.floating[Any]]) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        walk = self._walk
        if walk.step == self.episode_length:
            raise gym.error.ResetNeeded("the episode is over: call reset() before the next step()")
        proposed = float(np.asarray(action).reshape(()))
        bits = self._nearest(walk, self._bits_of(proposed))
        self._take(walk, bits, self._action_for(bits, proposed))
        if walk.step < self.episode_length:
            return self._observe(walk), 0.0, False, False, {}
        info = self._end(walk)
        return self._observe(walk), self._reward(info["score"]), True, False, info

    @property
    def episode_length(self) -> int:
        """Number of steps from reset to the end."""
        return len(self.choice.names) * len(self._columns)

    def _at(self, step: int) -> tuple[int, int]:
        """Which decision a step is about, and which column of the bits: 0 weights, 1 activations."""
        decision, part = divmod(step, len(self._columns))
        return decision, self._columns[part]

    def _nearest(self, walk: "_Walk", wanted: int) -> int:
        """The allowed bits closest to those wanted; the higher of two that are equally close."""
        decision, column = self._at(walk.step)
        pairs = self.choice.allowed[decision]
        if self._config.rule == "cost-aware":
            pairs = pairs & self._affordable(walk, decision)
        if column == 1:
            pairs = pairs & (np.arange(1, len(pairs) + 1) == walk.bits[decision, 0])[:, None]
        widths = np.flatnonzero(pairs.any(axis=1 - column)) + 1
        return int(min(widths, key=lambda width: (abs(width - wanted), -width)))

    def _affordable(self, walk: "_Walk", decision: int) -> NDArray[np.bool_]:
        """The pairs of one decision after which the cheapest bits for the rest still fit, [w_bits, a_bits]."""
        rest = walk.bits.copy()
        rest[decision] = self._reserve[decision]
        at_reserve = self.choice.cost[:, decision, rest[decision, 0] - 1, rest[decision, 1] - 1]
        others = self.choice.total(rest) - at_reserve
        fits = others[:, None, None] + self.choice.cost[:, decision] <= self.choice.capacity[:, None, None]
        affordable = np.asarray(fits.all(axis=0))
        affordable[tuple(self._reserve[decision] - 1)] = True
        return affordable

    def _finish(self, bits: IntArray) -> IntArray:
        if self._config.rule == "cost-aware":
            return spend_rest(self.choice, bits)
        return lower_in_sequence(self.choice, bits)

    def _end(self, walk: "_Walk") -> dict[str, Any]:
        final = self._finish(walk.bits)
        bits = self.choice.expand(final)
        return {
            "bits": bits,
            "score": self._evaluate(bits),
            "fits": self.choice.fits(final),
            "executed": self._executed(final, walk.actions),
        }

    def _executed(self, final: IntArray, actions: Sequence[float]) -> tuple[ExecutedStep, ...]:
        """Walk once more with the final bits."""
        walk, steps = _Walk(self._reserve), []
        for taken in actions:
            bits = int(final[self._at(walk.step)])
            action = self._action_for(bits, taken)
            steps.append(ExecutedStep(self._observe(walk), action, bits))
            self._take(walk, bits, action)
        return tuple(steps)

    def _take(self, walk: "_Walk", bits: int, action: float) -> None:
        decision, column = self._at(walk.step)
        walk.bits[decision, column] = bits
        walk.actions.append(action)

    def _observe(self, walk: "_Walk") -> FloatArray:
        decision, column = self._at(min(walk.step, self.episode_length - 1))
        previous = walk.actions[-1] if walk.actions else 1.0
        parts = [self._features[decision], [float(column == 0), previous]]
        if self._config.observation == "rich":
            left = 1 - self.choice.total(walk.bits) / self.choice.limits
            parts += [self._rich[decision], [float(np.clip(left.min(), 0, 1))]]
        return np.concatenate(parts).astype(np.float32)

    def _bits_of(self, action: float) -> int:
        if not 0 <= action <= 1:
            raise ValueError(f"an action lies in [0, 1], got {action}")
        return bits_of_action(action, min_bits=self._allowed.min_bits, max_bits=self._allowed.max_bits)

    def _action_for(self, bits: int, proposed: float) -> float:
        """The action that stands for these bits: the one proposed if it asked for them, else their middle."""
        if self._bits_of(proposed) == bits:
            return proposed
        action = action_of_bits(bits, min_bits=self._allowed.min_bits, max_bits=self._allowed.max_bits)
        return min(max(action, 0.0), 1.0)


class _Walk:
    """How far an episode has come: bits decided so far, the reserve in place of the others, and the actions taken."""

    def __init__(self, reserve: IntArray) -> None:
        self.bits = reserve.copy()
        self.actions: list[float] = []

    @property
    def step(self) -> int:
        return len(self.actions)

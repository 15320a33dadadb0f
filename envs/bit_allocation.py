"""Bit allocation as a Gymnasium environment: one episode is one rollout over the layers of a network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from envs.building import build_choices
from envs.choices import AllowedBits, Budget, Choices, IntArray
from envs.observation import Float32Array
from envs.reward import accuracy_reward
from envs.rollout import EnvConfig, LayerRollouts
from envs.rollout_state import Trajectories
from hardware_sim.cost import CostTable
from hardware_sim.layer import Layer


@dataclass(frozen=True, slots=True)
class ExecutedStep:
    """One step of an episode in accordance with the final policy.

    Args:
        observation: Observation of the step.
        action: Action in [0, 1] that corresponds to `bits`.
        bits: Width of the final policy.
    """

    observation: Float32Array
    action: float
    bits: int


class BitAllocationEnv(gym.Env[Float32Array, Float32Array]):
    """Gymnasium environment that gives every layer its bits, one decision at a time, under a budget.

    As in HAQ, CVPR 2019, section 3.

    **Episode.** Steps visit the layers in the order of execution; layers tied to an earlier one are not visited, they
    share its bits. Each layer is visited twice, for its weights and for its activations, or once where the activations
    are fixed. After the last step the episode is `terminated`; it is never truncated.

    **Action.** `Box(0, 1, (1,))`; see `envs.action`. Bits that are not allowed at this step are replaced by the nearest
    allowed ones, and the action by one that corresponds to them: the middle of their interval, or the end of [0, 1] for
    bits that are pinned outside of the range.

    **Observation.** `Box(0, 1, (10,))` for `haq`, `(14,)` for `rich`; every entry is scaled to [0, 1] over the layers.

    =====  ==========================================================================  ===============
    entry  convolution                                                                 fully connected
    =====  ==========================================================================  ===============
    0      position of the layer                                                       the same
    1      input channels                                                              inputs
    2      output channels                                                             outputs
    3      kernel size, the longer side                                                1
    4      stride, the longer side                                                     0
    5      input feature-map size, the longer side                                     positions
    6      number of weights                                                           the same
    7      1 if depthwise                                                              0
    8      1 on a weight step, 0 on an activation step                                 the same
    9      previous action as executed; 1 before the first                             the same
    10     `rich`: logarithm of the MACs                                               the same
    11     `rich`: maximum cost of the layer, divided by the largest one of any layer  the same
    12     `rich`: share of the cost that is not decided yet                           the same
    13     `rich`: budget left after the cheapest completion, divided by the budget    the same
    =====  ==========================================================================  ===============

    **Budget.** Rule `cost-aware` drops dominated pairs of bits (another pair has more bits at no more cost), allows at
    each step only bits after which the remaining decisions can still fit, and spends what is left where a further bit
    is cheapest: the final policy is always within every budget. Rule `haq` does not restrict the steps and lowers bits
    in sequence at the end.

    **Reward.** 0 before the last step, then `reward(evaluate(bits))`, with `bits` [layer, 2] the final policy.

    **Info.** After the last step: `bits` (int64 [layer, 2]), `score` (what `evaluate` returned), `fits` (whether the
    policy is within every budget), and `executed`, one `ExecutedStep` for each step, with the actions and observations
    that lead to the final policy.

    Args:
        layers: Layers in the order of execution.
        table: Cost of these layers.
        budget: Upper limits of the summed cost, the first one the objective's; or the choices of these layers within
            them, where these are already built.
        evaluate: Function from a policy, bits [layer, 2], to its score, or to anything that `reward` takes.
        reward: Function from what `evaluate` returned to the reward.
        allowed: Widths to choose from.
        config: Kind of observation and budget rule.

    Raises:
        BudgetError: Even the cheapest policy exceeds a budget.
        ValueError: A pin names no layer, or the table is of other layers.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  the declaration is gymnasium's

    def __init__(
        self,
        layers: Sequence[Layer],
        table: CostTable,
        budget: Budget | Sequence[Budget] | Choices,
        evaluate: Callable[[IntArray], Any],
        *,
        reward: Callable[[Any], float] = accuracy_reward(1.0),  # noqa: B008  a pure function
        allowed: AllowedBits = AllowedBits(),  # noqa: B008  frozen
        config: EnvConfig = EnvConfig(),  # noqa: B008  frozen
    ) -> None:
        if tuple(layers) != table.layers:
            raise ValueError("the cost table has other layers than the environment")
        if not isinstance(budget, Choices):
            budget = build_choices(table, [budget] if isinstance(budget, Budget) else list(budget), allowed)
        self.rollouts = LayerRollouts(layers, budget, allowed, config)
        self._evaluate, self._reward = evaluate, reward
        self.observation_space = gym.spaces.Box(0.0, 1.0, (self.rollouts.observer.size,), np.float32)
        self.action_space = gym.spaces.Box(0.0, 1.0, (1,), np.float32)
        self._state = self.rollouts.initial_state(1)

    @property
    def choices(self) -> Choices:
        """Allowed bits and their costs; under the cost-aware rule without dominated pairs."""
        return self.rollouts.choices

    @property
    def episode_length(self) -> int:
        """Number of steps from reset to the end."""
        return self.rollouts.episode_length

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32Array, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Seed of the environment's random numbers, none of which are used.
            options: Ignored.

        Returns:
            First observation, and an empty info.
        """
        super().reset(seed=seed, options=options)
        self._state = self.rollouts.initial_state(1)
        return self._observation(), {}

    def step(self, action: NDArray[np.floating[Any]]) -> tuple[Float32Array, float, bool, bool, dict[str, Any]]:
        """Choose the bits of the next decision.

        Args:
            action: Array [1] in [0, 1].

        Returns:
            Observation, reward, terminated, truncated and info.

        Raises:
            gymnasium.error.ResetNeeded: The episode is over.
            ValueError: The action is outside [0, 1].
        """
        if self._state.step == self.episode_length:
            raise gym.error.ResetNeeded("the episode is over: call reset() before the next step()")
        self.rollouts.advance(self._state, np.asarray(action, dtype=np.float64).reshape(1))
        if self._state.step < self.episode_length:
            return self._observation(), 0.0, False, False, {}
        info = self._end()
        return self._observation(), self._reward(info["score"]), True, False, info

    def outcome_of(self, bits: IntArray) -> tuple[float, Any]:
        """Evaluate a complete policy.

        Args:
            bits: The policy, [layer, 2].

        Returns:
            Its reward, and what `evaluate` returned.
        """
        score = self._evaluate(bits)
        return self._reward(score), score

    def _observation(self) -> Float32Array:
        observed: Float32Array = self.rollouts.observer.observe(self._state)[0]
        return observed

    def _end(self) -> dict[str, Any]:
        final = self.rollouts.final_policies(self._state)
        bits = self.choices.expand(final[0])
        return {
            "bits": bits,
            "score": self._evaluate(bits),
            "fits": self.choices.fits(final[0]),
            "executed": self._executed(self.rollouts.trajectories_of(final, proposed=self._state.actions)),
        }

    def _executed(self, trajectories: Trajectories) -> tuple[ExecutedStep, ...]:
        """Split the only trajectory into its steps."""
        steps = zip(trajectories.observations[0], trajectories.actions[0].tolist(), strict=True)
        bits = trajectories.bits[0][:, list(self.rollouts.columns)].ravel().tolist()
        return tuple(ExecutedStep(*step, width) for step, width in zip(steps, bits, strict=True))

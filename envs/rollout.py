"""Rollouts over the layers without evaluation: any number at once, each a row of the same arrays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from envs.budget import lower_in_sequence, spend_remaining
from envs.choices import AllowedBits, Choices, IntArray
from envs.observation import FloatArray, ObservationKind, layer_features, observation_size, rich_features
from envs.pairs import MAX_BITS
from hardware_sim.layer import Layer

BudgetRule = Literal["cost-aware", "haq"]
BUDGET_RULES: tuple[BudgetRule, ...] = get_args(BudgetRule)
WIDTHS = np.arange(1, MAX_BITS + 1)

Costs = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EnvConfig:
    """Options of the environment.

    Args:
        observation: Kind of observation.
        rule: Rule that keeps the budget.
    """

    observation: ObservationKind = "haq"
    rule: BudgetRule = "cost-aware"


@dataclass(frozen=True, slots=True, eq=False)
class Trajectories:
    """Complete rollouts, with the actions and observations that lead to their final policies."""

    bits: IntArray
    """[rollout, decision, 2]"""
    observations: FloatArray
    """[rollout, step, size]"""
    actions: NDArray[np.float64]
    """[rollout, step], in [0, 1]"""


class RolloutState:
    """State of rollouts that have reached the same step.

    Args:
        count: Number of rollouts.
        reserve: Policy for undecided layers, [decision, 2].
        steps: Number of steps of a rollout.
        reserve_cost: Cost of the reserve, [constraint].

    Attributes:
        bits: Bits chosen so far, and those of the reserve for undecided layers, [rollout, decision, 2].
        actions: Executed actions, 1 for steps to come, [rollout, step].
        spent: Cost of `bits`, where a partly decided layer still counts as in the reserve, [rollout, constraint].
        step: Number of the next step.
    """

    def __init__(self, count: int, reserve: IntArray, steps: int, reserve_cost: Costs) -> None:
        self.bits = np.repeat(reserve[None], count, axis=0)
        self.actions = np.ones((count, steps))
        self.spent = np.repeat(reserve_cost[None], count, axis=0)
        self.step = 0


class LayerRollouts:
    """Transition rules of the environment; `envs.bit_allocation.BitAllocationEnv` documents them.

    Args:
        layers: Layers in the order of execution.
        choice: Allowed bits and their costs.
        allowed: Widths to choose from.
        config: Kind of observation and budget rule.

    Raises:
        BudgetError: Even the cheapest policy exceeds a budget.
    """

    def __init__(self, layers: Sequence[Layer], choice: Choices, allowed: AllowedBits, config: EnvConfig) -> None:
        self.choice = choice.without_dominated() if config.rule == "cost-aware" else choice
        self.columns = (0, 1) if allowed.a_bits is None else (0,)
        self.episode_length = len(choice.names) * len(self.columns)
        self.observation_size = observation_size(config.observation)
        self._allowed, self._config = allowed, config
        decided = [layer for layer in layers if not layer.tied_to]
        self._features = self._by_step(layer_features(decided))
        self._rich = self._by_step(rich_features(decided, self.choice))
        self._reserve = self.choice.reserve
        self._reserve_costs = np.array([self._cost(*each) for each in enumerate(self._reserve)])
        """[decision, constraint]"""
        self._capacity = self.choice.capacity

    def initial_state(self, count: int) -> RolloutState:
        """Start rollouts.

        Args:
            count: Number of rollouts.

        Returns:
            State before the first step.
        """
        return RolloutState(count, self._reserve, self.episode_length, self._reserve_costs.sum(axis=0))

    def decision_at(self, step: int) -> tuple[int, int]:
        """Locate a step.

        Args:
            step: Number of the step.

        Returns:
            Position of the decision, and column of the bits: 0 for weights, 1 for activations.
        """
        decision, part = divmod(step, len(self.columns))
        return decision, self.columns[part]

    def observe(self, state: RolloutState) -> FloatArray:
        """Compute the observations of the current step; after the last step those of the last one.

        Args:
            state: State of the rollouts.

        Returns:
            Array [rollout, size].
        """
        step = min(state.step, self.episode_length - 1)
        decision, column = self.decision_at(step)
        observed = np.empty((len(state.bits), self.observation_size), dtype=np.float32)
        features = self._features.shape[1]
        observed[:, :features] = self._features[step]
        observed[:, features] = column == 0
        observed[:, features + 1] = state.actions[:, state.step - 1] if state.step else 1.0
        if self._config.observation == "rich":
            observed[:, features + 2 : -1] = self._rich[step]
            spent = state.spent
            if state.step < self.episode_length:
                spent = spent + self._cost(decision, state.bits[:, decision]) - self._reserve_costs[decision]
            observed[:, -1] = np.minimum(np.maximum((1 - spent / self.choice.limits).min(axis=1), 0), 1)
        return observed

    def advance(self, state: RolloutState, proposed: NDArray[np.float64]) -> None:
        """Execute one step of every rollout: choose the allowed bits nearest to those of the actions.

        Args:
            state: State of the rollouts, which is changed.
            proposed: Actions in [0, 1], [rollout].

        Raises:
            ValueError: An action is outside [0, 1].
        """
        decision, column = self.decision_at(state.step)
        wanted = self.bits_of_actions(proposed)
        possible = self._selectable(state, decision, column)
        # Of two equally close widths the higher one.
        distance = np.where(possible, 2 * np.abs(WIDTHS - wanted[:, None]) - (wanted[:, None] < WIDTHS), np.inf)
        bits = distance.argmin(axis=1) + 1
        state.bits[:, decision, column] = bits
        state.actions[:, state.step] = np.where(wanted == bits, proposed, self._actions_of_bits(bits))
        state.step += 1
        if column == self.columns[-1]:
            state.spent += self._cost(decision, state.bits[:, decision]) - self._reserve_costs[decision]

    def final_policies(self, state: RolloutState) -> IntArray:
        """Apply the budget rule to complete rollouts.

        Args:
            state: State after the last step.

        Returns:
            Policies [rollout, decision, 2].
        """
        rule = spend_remaining if self._config.rule == "cost-aware" else lower_in_sequence
        return np.stack([rule(self.choice, bits) for bits in state.bits])

    def run(self, act: Callable[[FloatArray], NDArray[np.floating]], count: int = 1) -> Trajectories:
        """Run complete rollouts.

        Args:
            act: Function from observations [rollout, size] to actions [rollout].
            count: Number of rollouts.

        Returns:
            Trajectories that lead to the final policies.

        Raises:
            ValueError: An action is outside [0, 1].
        """
        state = self.initial_state(count)
        for _ in range(self.episode_length):
            self.advance(state, np.asarray(act(self.observe(state)), dtype=np.float64).reshape(count))
        return self.trajectories_of(self.final_policies(state), proposed=state.actions)

    def trajectories_of(self, bits: IntArray, *, proposed: NDArray[np.float64] | None = None) -> Trajectories:
        """Reconstruct the trajectories that end in given policies.

        Args:
            bits: Policies [rollout, decision, 2].
            proposed: Actions [rollout, step] to keep wherever they correspond to the bits; otherwise, and without them,
                an action is the middle of the interval of its bits.

        Returns:
            The trajectories.
        """
        by_step = bits[:, :, list(self.columns)].reshape(len(bits), self.episode_length)
        actions = self._actions_of_bits(by_step)
        if proposed is not None:
            actions = np.where(self.bits_of_actions(proposed) == by_step, proposed, actions)
        features = self._features.shape[1]
        observed = np.empty((len(bits), self.episode_length, self.observation_size), dtype=np.float32)
        observed[:, :, :features] = self._features
        observed[:, :, features] = np.tile([column == 0 for column in self.columns], len(self._reserve))
        observed[:, 0, features + 1], observed[:, 1:, features + 1] = 1.0, actions[:, :-1]
        if self._config.observation == "rich":
            observed[:, :, features + 2 : -1] = self._rich
            observed[:, :, -1] = self._remaining_budget(bits)
        return Trajectories(bits, observed, actions)

    def bits_of_actions(self, actions: NDArray[np.float64]) -> IntArray:
        """Convert actions to bits as `envs.action.bits_of_action` does.

        Args:
            actions: Array in [0, 1].

        Returns:
            Widths of the same shape.

        Raises:
            ValueError: An action is outside [0, 1].
        """
        if not ((actions >= 0) & (actions <= 1)).all():
            raise ValueError(f"an action lies in [0, 1], got {actions}")
        low, high = self._allowed.min_bits, self._allowed.max_bits
        bits = np.rint(low - 0.5 + actions * (high - low + 1)).astype(np.int64)
        return np.minimum(np.maximum(bits, low), high)

    def _actions_of_bits(self, bits: IntArray) -> NDArray[np.float64]:
        """Middle of the interval of actions of every width; an end of [0, 1] for widths out of range."""
        low, high = self._allowed.min_bits, self._allowed.max_bits
        return np.minimum(np.maximum((bits - low + 0.5) / (high - low + 1), 0.0), 1.0)

    def _by_step(self, features: FloatArray) -> FloatArray:
        return np.repeat(features, len(self.columns), axis=0)

    def _cost(self, decision: int, pairs: IntArray) -> Costs:
        """Cost of pairs [..., 2] of one decision, [..., constraint]."""
        return np.asarray(self.choice.cost[:, decision, pairs[..., 0] - 1, pairs[..., 1] - 1].T)

    def _selectable(self, state: RolloutState, decision: int, column: int) -> NDArray[np.bool_]:
        """Mask of the widths that every rollout may choose at this step, [rollout, width]."""
        pairs = self._affordable(state, decision)
        if column == 1:
            return np.asarray(pairs[np.arange(len(pairs)), state.bits[:, decision, 0] - 1])
        return np.asarray(pairs.any(axis=2))

    def _affordable(self, state: RolloutState, decision: int) -> NDArray[np.bool_]:
        """Mask of the pairs of one decision that leave enough for the rest, [rollout, w_bits, a_bits].

        The rest falls back to the reserve.
        """
        allowed = self.choice.allowed[decision]
        if self._config.rule != "cost-aware":
            return np.broadcast_to(allowed, (len(state.bits), *allowed.shape))
        reserve = self._reserve[decision]
        room = self._capacity - state.spent + self._reserve_costs[decision]
        fits = np.asarray((self.choice.cost[:, decision] <= room[:, :, None, None]).all(axis=1))
        fits[:, reserve[0] - 1, reserve[1] - 1] = True
        return np.asarray(fits & allowed)

    def _remaining_budget(self, bits: IntArray) -> Costs:
        """Remaining budget before every step, relative to the tightest budget, [rollout, step]."""
        decisions = np.arange(len(self._reserve))
        reserve_cost = self._reserve_costs.T
        more = self.choice.cost[:, decisions, bits[..., 0] - 1, bits[..., 1] - 1] - reserve_cost[:, None]
        behind = np.cumsum(more, axis=2) - more
        spent = reserve_cost.sum(axis=1)[:, None, None, None] + np.repeat(behind[..., None], len(self.columns), axis=3)
        if len(self.columns) == 2:
            half = self.choice.cost[:, decisions, bits[..., 0] - 1, self._reserve[:, 1] - 1] - reserve_cost[:, None]
            spent[..., 1] += half
        left = (1 - spent / self.choice.limits[:, None, None, None]).min(axis=0)
        return np.asarray(left.reshape(len(bits), self.episode_length).clip(0, 1))

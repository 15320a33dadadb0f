"""Vectorized rollouts over the layers, without evaluating policies; axis 0 of every array is the rollout."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from envs.action import actions_of_bits, bits_of_actions
from envs.budget_rules import lower_in_sequence, spend_remaining
from envs.choices import AllowedBits, BoolArray, Choices, FloatArray, IntArray
from envs.observation import Float32Array, ObservationKind, layer_features, observation_size, rich_features
from envs.pairs import INTEGER_WIDTHS, MAX_BITS
from hardware_sim.layer import Layer

BudgetRule = Literal["cost-aware", "haq"]
BUDGET_RULES: tuple[BudgetRule, ...] = get_args(BudgetRule)
_DIFFERENCES = INTEGER_WIDTHS - np.arange(MAX_BITS + 1)[:, None]
_DISTANCES = 2 * np.abs(_DIFFERENCES) - (_DIFFERENCES > 0)
"""[wanted width, width - 1]: twice the distance of two widths, less 1 for wider ones, which ranks all widths."""


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
    observations: Float32Array
    """[rollout, step, size]"""
    actions: FloatArray
    """[rollout, step], in [0, 1]"""


class RolloutState:
    """State of rollouts that have reached the same step.

    Args:
        reserve: Bits of decisions that are still open, [decision, 2].
        steps: Number of steps of a rollout.
        reserve_cost: Cost of the reserve, [constraint].
        capacity: Limits of the budgets of each rollout, [rollout, constraint].

    Attributes:
        bits: Bits chosen so far, and those of the reserve elsewhere, [rollout, decision, 2].
        actions: Executed actions, 1 for steps to come, [rollout, step].
        spent: Cost of all decisions, [rollout, constraint]: at the chosen bits where both weights and activations are
            chosen, at the bits of the reserve otherwise.
        step: Number of the next step.
    """

    def __init__(self, reserve: IntArray, steps: int, reserve_cost: FloatArray, capacity: FloatArray) -> None:
        count = len(capacity)
        self.capacity = capacity
        self.bits = np.repeat(reserve[None], count, axis=0)
        self.actions = np.ones((count, steps))
        self.spent = np.repeat(reserve_cost[None], count, axis=0)
        self.step = 0


class LayerRollouts:
    """Transition rules of `envs.bit_allocation.BitAllocationEnv`, for any number of rollouts at once.

    A step decides one width, of the weights or of the activations of one decision: the one nearest to that of the
    action (`envs.action`) among those that may be chosen; of two equally near ones the wider. Where it differs from the
    width of the action, the executed action is the middle of the interval of the width. Which widths may be chosen, and
    what happens after the last step, depends on the budget rule:

    - `cost-aware`: dominated pairs of bits are dropped. A width may be chosen if an allowed pair has it, together with
      the weights' width where that is decided, and the pair is within every limit with all open decisions at the bits
      of `Choices.reserve`. After the last step `spend_remaining` adds bits.
    - `haq`: a width may be chosen if an allowed pair has it. After the last step `lower_in_sequence` lowers bits.

    Args:
        layers: Layers in the order of execution.
        choices: Allowed bits and their costs.
        widths: Widths to choose from, as given to `build_choices`.
        config: Kind of observation and budget rule.

    Attributes:
        choices: Allowed bits and their costs; under the cost-aware rule without dominated pairs.
        widths: Widths to choose from.
        columns: Columns of the bits that are decided for each decision: 0 for weights, 1 for activations.
        episode_length: Number of steps of a rollout.
        observation_size: Length of an observation.

    Raises:
        BudgetError: Even the cheapest policy exceeds a budget.
    """

    def __init__(self, layers: Sequence[Layer], choices: Choices, widths: AllowedBits, config: EnvConfig) -> None:
        self.choices = choices.without_dominated() if config.rule == "cost-aware" else choices
        self.widths = widths
        self.columns = (0, 1) if widths.a_bits is None else (0,)
        self.episode_length = len(choices.names) * len(self.columns)
        self.observation_size = observation_size(config.observation)
        self._config = config
        self._bits_of_actions = partial(bits_of_actions, min_bits=widths.min_bits, max_bits=widths.max_bits)
        self._actions_of_bits = partial(actions_of_bits, min_bits=widths.min_bits, max_bits=widths.max_bits)
        self._action_of_width = self._actions_of_bits(INTEGER_WIDTHS)
        untied = [layer for layer in layers if not layer.tied_to]
        self._features = self._by_step(layer_features(untied))
        self._rich = self._by_step(rich_features(untied, self.choices))
        self._reserve = self.choices.reserve
        self._reserve_costs = np.array([self._cost(*each) for each in enumerate(self._reserve)])
        """[decision, constraint]"""
        self._capacity = self.choices.capacity

    def initial_state(self, count: int, limits: FloatArray | None = None) -> RolloutState:
        """Start rollouts.

        Args:
            count: Number of rollouts.
            limits: Limits of each rollout, [rollout, constraint], at least the cost of `Choices.reserve`; None for
                those of the choices.

        Returns:
            State before the first step.
        """
        capacity = np.repeat(self._capacity[None], count, axis=0) if limits is None else limits
        return RolloutState(self._reserve, self.episode_length, self._reserve_costs.sum(axis=0), capacity)

    def decision_at(self, step: int) -> tuple[int, int]:
        """Locate a step.

        Args:
            step: Number of the step.

        Returns:
            Position of the decision, and column of the bits: 0 for weights, 1 for activations.
        """
        decision, part = divmod(step, len(self.columns))
        return decision, self.columns[part]

    def observe(self, state: RolloutState) -> Float32Array:
        """Compute the observations before the next step.

        Columns: the features of the layer (`layer_features`), 1 for a step of weights, the previous action; then for
        `rich` those of `rich_features`, and the fraction of the budget that is left. Features after the last step are
        those of the last step, with its action and the budget left in the end.

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
            observed[:, -1] = np.minimum(np.maximum((1 - spent / self.choices.limits).min(axis=1), 0), 1)
        return observed

    def selectable(self, state: RolloutState) -> BoolArray:
        """Return which widths may be chosen at the next step.

        Args:
            state: State of the rollouts.

        Returns:
            Mask [rollout, width], index = bits - 1.
        """
        decision, column = self.decision_at(state.step)
        pairs = self._affordable(state, decision)
        if column == 1:
            return np.asarray(pairs[np.arange(len(pairs)), state.bits[:, decision, 0] - 1])
        return np.asarray(pairs.any(axis=2))

    def advance(self, state: RolloutState, proposed: FloatArray) -> None:
        """Execute one step of every rollout: choose the allowed bits nearest to those of the actions.

        Args:
            state: State of the rollouts, which is changed.
            proposed: Actions in [0, 1], [rollout].

        Raises:
            ValueError: An action is outside [0, 1].
        """
        decision, column = self.decision_at(state.step)
        wanted = self._bits_of_actions(proposed)
        possible = self.selectable(state)
        distance = np.where(possible, _DISTANCES[wanted], np.inf)
        bits = distance.argmin(axis=1) + 1
        state.bits[:, decision, column] = bits
        state.actions[:, state.step] = np.where(wanted == bits, proposed, self._action_of_width[bits - 1])
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
        return np.stack([rule(self.choices, bits) for bits in state.bits])

    def run(self, act: Callable[[Float32Array], NDArray[np.floating]], count: int = 1) -> Trajectories:
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

    def trajectories_of(self, bits: IntArray, *, proposed: FloatArray | None = None) -> Trajectories:
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
            actions = np.where(self._bits_of_actions(proposed) == by_step, proposed, actions)
        features = self._features.shape[1]
        observed = np.empty((len(bits), self.episode_length, self.observation_size), dtype=np.float32)
        observed[:, :, :features] = self._features
        observed[:, :, features] = np.tile([column == 0 for column in self.columns], len(self._reserve))
        observed[:, 0, features + 1], observed[:, 1:, features + 1] = 1.0, actions[:, :-1]
        if self._config.observation == "rich":
            observed[:, :, features + 2 : -1] = self._rich
            observed[:, :, -1] = self._remaining_budget(bits)
        return Trajectories(bits, observed, actions)

    def _by_step(self, features: Float32Array) -> Float32Array:
        return np.repeat(features, len(self.columns), axis=0)

    def _cost(self, decision: int, pairs: IntArray) -> FloatArray:
        """Cost of pairs [..., 2] of one decision, [..., constraint]."""
        return np.asarray(self.choices.cost[:, decision, pairs[..., 0] - 1, pairs[..., 1] - 1].T)

    def _affordable(self, state: RolloutState, decision: int) -> BoolArray:
        """Mask of the pairs that each rollout may choose for one decision, [rollout, w_bits, a_bits].

        Under the cost-aware rule: those within every limit with all open decisions at the bits of the reserve.
        """
        allowed = self.choices.allowed[decision]
        if self._config.rule != "cost-aware":
            return np.broadcast_to(allowed, (len(state.bits), *allowed.shape))
        reserve = self._reserve[decision]
        available = state.capacity - state.spent + self._reserve_costs[decision]
        fits = np.asarray((self.choices.cost[:, decision] <= available[:, :, None, None]).all(axis=1))
        fits[:, reserve[0] - 1, reserve[1] - 1] = True
        return np.asarray(fits & allowed)

    def _remaining_budget(self, bits: IntArray) -> FloatArray:
        """Fraction of the budget that is left before every step, minimum over constraints, [rollout, step].

        Decisions to come cost as in the reserve; that of the step counts its bits as far as they are chosen before it.
        """
        decisions = np.arange(len(self._reserve))
        reserve_cost = self._reserve_costs.T
        more = self.choices.cost[:, decisions, bits[..., 0] - 1, bits[..., 1] - 1] - reserve_cost[:, None]
        behind = np.cumsum(more, axis=2) - more
        spent = reserve_cost.sum(axis=1)[:, None, None, None] + np.repeat(behind[..., None], len(self.columns), axis=3)
        if len(self.columns) == 2:
            half = self.choices.cost[:, decisions, bits[..., 0] - 1, self._reserve[:, 1] - 1] - reserve_cost[:, None]
            spent[..., 1] += half
        left = (1 - spent / self.choices.limits[:, None, None, None]).min(axis=0)
        return np.asarray(left.reshape(len(bits), self.episode_length).clip(0, 1))

"""Rollouts over the layers, many at once, without evaluating policies; axis 0 of every array is the rollout."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from envs.action import actions_of_bits, bits_of_actions
from envs.budget_rules import lower_in_sequence, spend_remaining
from envs.choices import AllowedBits, BoolArray, Choices, FloatArray, IntArray
from envs.observation import Float32Array, ObservationKind
from envs.pairs import INTEGER_WIDTHS, MAX_BITS, costs_of_pairs
from envs.rollout_observation import RolloutObserver
from envs.rollout_state import RolloutState, Trajectories
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
        observer: Observations of the rollouts.

    Raises:
        BudgetError: Even the cheapest policy exceeds a budget.
    """

    def __init__(self, layers: Sequence[Layer], choices: Choices, widths: AllowedBits, config: EnvConfig) -> None:
        self.choices = choices.without_dominated() if config.rule == "cost-aware" else choices
        self.widths = widths
        self.columns = (0, 1) if widths.a_bits is None else (0,)
        self.episode_length = len(choices.names) * len(self.columns)
        self._rule = config.rule
        self._bits_of_actions = partial(bits_of_actions, min_bits=widths.min_bits, max_bits=widths.max_bits)
        self._actions_of_bits = partial(actions_of_bits, min_bits=widths.min_bits, max_bits=widths.max_bits)
        self._action_of_width = self._actions_of_bits(INTEGER_WIDTHS)
        self._reserve, cost = self.choices.reserve, self.choices.cost
        self._reserve_costs = np.array([costs_of_pairs(cost, *each) for each in enumerate(self._reserve)])
        """[decision, constraint]"""
        self._capacity = self.choices.capacity
        self.observer = RolloutObserver(
            layers, self.choices, self.columns, reserve_costs=self._reserve_costs, kind=config.observation
        )

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
            added = costs_of_pairs(self.choices.cost, decision, state.bits[:, decision])
            state.spent += added - self._reserve_costs[decision]

    def final_policies(self, state: RolloutState) -> IntArray:
        """Apply the budget rule to complete rollouts.

        Args:
            state: State after the last step.

        Returns:
            Policies [rollout, decision, 2].
        """
        rule = spend_remaining if self._rule == "cost-aware" else lower_in_sequence
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
            self.advance(state, np.asarray(act(self.observer.observe(state)), dtype=np.float64).reshape(count))
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
        return Trajectories(bits, self.observer.observe_trajectories(bits, actions), actions)

    def _affordable(self, state: RolloutState, decision: int) -> BoolArray:
        """Mask of the pairs that each rollout may choose for one decision, [rollout, w_bits, a_bits].

        Under the cost-aware rule: those within every limit with all open decisions at the bits of the reserve.
        """
        allowed = self.choices.allowed[decision]
        if self._rule != "cost-aware":
            return np.broadcast_to(allowed, (len(state.bits), *allowed.shape))
        reserve = self._reserve[decision]
        available = state.capacity - state.spent + self._reserve_costs[decision]
        fits = np.asarray((self.choices.cost[:, decision] <= available[:, :, None, None]).all(axis=1))
        fits[:, reserve[0] - 1, reserve[1] - 1] = True
        return np.asarray(fits & allowed)

"""Observations of rollouts: before one step of them, and before all steps of complete ones; axis 0 is the rollout."""

from collections.abc import Sequence

import numpy as np

from envs.choices import Choices, FloatArray, IntArray
from envs.observation import Float32Array, ObservationKind, layer_features, observation_size, rich_features
from envs.pairs import costs_of_pairs
from envs.rollout_state import RolloutState
from hardware_sim.layer import Layer


class RolloutObserver:
    """Observations of rollouts over the layers.

    Columns: the features of the layer (`layer_features`), 1 for a step of weights, the previous action; then for `rich`
    those of `rich_features`, and the fraction of the budget that is left.

    Args:
        layers: Layers in the order of execution.
        choices: Allowed bits and their costs.
        columns: Columns of the bits that are decided for each decision: 0 for weights, 1 for activations.
        reserve_costs: Cost of every decision at the bits of `Choices.reserve`, [decision, constraint].
        kind: Kind of observation.

    Attributes:
        size: Length of an observation.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        choices: Choices,
        columns: Sequence[int],
        *,
        reserve_costs: FloatArray,
        kind: ObservationKind,
    ) -> None:
        self.size = observation_size(kind)
        self._choices, self._columns, self._reserve_costs = choices, columns, reserve_costs
        untied = [layer for layer in layers if not layer.tied_to]
        self._features = self._by_step(layer_features(untied))
        self._rich = self._by_step(rich_features(untied, choices)) if kind == "rich" else None
        self._is_of_weights = np.tile([column == 0 for column in columns], len(untied))

    def observe(self, state: RolloutState) -> Float32Array:
        """Compute the observations before the next step.

        Features after the last step are those of the last step, with its action and the budget left in the end.

        Args:
            state: State of the rollouts.

        Returns:
            Array [rollout, size].
        """
        step = min(state.step, len(self._features) - 1)
        decision = step // len(self._columns)
        observed = np.empty((len(state.bits), self.size), dtype=np.float32)
        features = self._features.shape[1]
        observed[:, :features] = self._features[step]
        observed[:, features] = self._is_of_weights[step]
        observed[:, features + 1] = state.actions[:, state.step - 1] if state.step else 1.0
        if self._rich is not None:
            observed[:, features + 2 : -1] = self._rich[step]
            spent = state.spent
            if state.step < len(self._features):
                chosen = costs_of_pairs(self._choices.cost, decision, state.bits[:, decision])
                spent = spent + chosen - self._reserve_costs[decision]
            observed[:, -1] = np.minimum(np.maximum((1 - spent / self._choices.limits).min(axis=1), 0), 1)
        return observed

    def observe_trajectories(self, bits: IntArray, actions: FloatArray) -> Float32Array:
        """Compute the observations before every step of complete rollouts.

        Args:
            bits: Policies [rollout, decision, 2].
            actions: Executed actions [rollout, step].

        Returns:
            Array [rollout, step, size].
        """
        features = self._features.shape[1]
        observed = np.empty((len(bits), len(self._features), self.size), dtype=np.float32)
        observed[:, :, :features] = self._features
        observed[:, :, features] = self._is_of_weights
        observed[:, 0, features + 1], observed[:, 1:, features + 1] = 1.0, actions[:, :-1]
        if self._rich is not None:
            observed[:, :, features + 2 : -1] = self._rich
            observed[:, :, -1] = self._remaining_budget(bits)
        return observed

    def _by_step(self, features: Float32Array) -> Float32Array:
        return np.repeat(features, len(self._columns), axis=0)

    def _remaining_budget(self, bits: IntArray) -> FloatArray:
        """Fraction of the budget that is left before every step, minimum over constraints, [rollout, step].

        Decisions to come cost as in the reserve; that of the step counts its bits as far as they are chosen before it.
        """
        reserve = self._choices.reserve
        decisions = np.arange(len(reserve))
        reserve_cost = self._reserve_costs.T
        more = self._choices.cost[:, decisions, bits[..., 0] - 1, bits[..., 1] - 1] - reserve_cost[:, None]
        behind = np.cumsum(more, axis=2) - more
        spent = reserve_cost.sum(axis=1)[:, None, None, None] + np.repeat(behind[..., None], len(self._columns), axis=3)
        if len(self._columns) == 2:
            half = self._choices.cost[:, decisions, bits[..., 0] - 1, reserve[:, 1] - 1] - reserve_cost[:, None]
            spent[..., 1] += half
        left = (1 - spent / self._choices.limits[:, None, None, None]).min(axis=0)
        return np.asarray(left.reshape(len(bits), len(self._features)).clip(0, 1))

"""Simulated rollouts over the decisions: what an actor observes, and what each of its steps loses.

No policy is evaluated: losses are those of models, budgets are drawn. The value of a state is the least loss that the
decisions to come can have within what is left of the budget (`agents.price_curves`), and the reward of a step is how
much less it is after the step: shaping by a potential, which leaves the best policy the best (Ng, Harada and Russell
1999). The rewards of a rollout sum to minus its excess over the least loss, and each tells at once what its step lost.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.base import Float32Array, FloatArray, IntArray, RolloutStep
from agents.price_curves import PRICES, PriceCurves
from agents.space import SearchSpace

WIDTHS = 8
"""Number of widths, 1 to 8 bits."""
OBSERVATION_SIZE = 6 + 2 * WIDTHS + PRICES
LOADS = slice(6 + WIDTHS, 6 + 2 * WIDTHS)
"""Columns of an observation with the load of every width."""
NOT_SELECTABLE = 2.0
"""Value in the columns of a width that may not be chosen; loads of others are at most 1."""
_TOLERANCE = 1e-9
"""Relative excess over a limit that counts as rounding."""


class Loads:
    """Costs of a search space in parts of its budgets, combined to one number.

    Under several budgets, those that the policy of least prior loss comes nearest to have most weight.

    Args:
        space: Search space.
        load: Load of a policy near the budgets under each of them, [constraint].

    Attributes:
        of_pairs: Load of every pair, [decision, w_bits, a_bits].
        least_after: Least load of the decisions behind each one, [decision].
        largest: Largest load of a policy of allowed pairs.
        least: Least load of a policy of allowed pairs; above 0, as budgets are drawn on a logarithmic scale.
    """

    def __init__(self, space: SearchSpace, load: FloatArray) -> None:
        weights = load**4 / (load**4).sum()
        self.of_pairs = np.tensordot(weights / space.budget, space.cost, 1)
        allowed = np.where(space.allowed, self.of_pairs, np.inf).min(axis=(1, 2))
        self.least_after = np.append(allowed[::-1].cumsum()[::-1][1:], 0.0)
        self.largest = float(np.where(space.allowed, self.of_pairs, 0.0).max(axis=(1, 2)).sum())
        self.least = max(float(allowed.sum()), 1e-6 * self.largest, 1e-300)


@dataclass(frozen=True, slots=True, eq=False)
class Experience:
    """Steps of simulated rollouts."""

    observations: Float32Array
    """[step, OBSERVATION_SIZE]"""
    widths: IntArray
    """[step]: executed bits."""
    rewards: Float32Array
    """[step]"""

    @classmethod
    def joined(cls, parts: Iterable["Experience"]) -> "Experience":
        """Join the steps of several batches of rollouts.

        Args:
            parts: Batches.

        Returns:
            All steps, in the order of the batches.
        """
        fields = zip(*((each.observations, each.widths, each.rewards) for each in parts), strict=True)
        return cls(*map(np.concatenate, fields))


class RolloutObserver:
    """Observations and rewards of rollouts in progress, each with its own loss model and budget.

    Args:
        allowed: Pairs that may be chosen, [decision, w_bits, a_bits].
        loads: Loads of the pairs.
        curves: Curves of the models.
        models: Model of each rollout, [rollout].
        limits: Budget of each rollout as a load, [rollout].
    """

    def __init__(
        self, allowed: NDArray[np.bool_], loads: Loads, curves: PriceCurves, models: IntArray, limits: FloatArray
    ) -> None:
        self._allowed, self._loads, self._curves, self._models, self._limits = allowed, loads, curves, models, limits
        self._left = limits.copy()
        """Load that the decision of the step and those behind it may have, [rollout]."""
        self._value = curves.losses_to_go(models, 0, limits)
        self._scale = self._value.copy()
        self._pair_values: FloatArray = np.zeros(0)
        self._pair_loads: FloatArray = np.zeros(0)
        self._step: tuple[int, int] | None = None
        self._by_width: FloatArray = np.zeros(0)
        self._observations: list[Float32Array] = []
        self._widths: list[IntArray] = []
        self._rewards: list[FloatArray] = []

    def observe(self, step: RolloutStep) -> Float32Array:
        """Return the observations before a step.

        Columns: position of the decision; 1 for a step of activations; position on the price curve; what is left of the
        budget; what is left of the loss; the largest load of the decision; then by width the loss to go, relative to
        the least loss of the rollout, and the load, relative to what is left; then the width at every price.

        Args:
            step: The step.

        Returns:
            Array [rollout, OBSERVATION_SIZE].
        """
        self._finish_step(step.bits)
        decision, column = step.decision, step.column
        if self._step is None or self._step[0] != decision:
            self._begin_decision(step)
        self._step = (decision, column)
        if column == 0:
            self._by_width, load = self._pair_values.min(axis=2), self._pair_loads.min(axis=2)
        else:
            rows, chosen = np.arange(len(self._left)), step.bits[:, decision, 0] - 1
            self._by_width, load = self._pair_values[rows, chosen], self._pair_loads[rows, chosen]
        self._by_width = np.where(step.selectable[:, : self._by_width.shape[1]], self._by_width, np.inf)
        observed = np.concatenate((self._progress(decision, column), self._choices(load), self._prices(step)), axis=1)
        self._observations.append(observed.astype(np.float32))
        return self._observations[-1]

    def experience(self, bits: IntArray) -> Experience:
        """Return all steps of the rollouts.

        Args:
            bits: Policies as they were chosen, [rollout, decision, 2].

        Returns:
            The steps, those of the first step of all rollouts first.
        """
        self._finish_step(bits)
        return Experience(
            np.concatenate(self._observations),
            np.concatenate(self._widths),
            np.concatenate(self._rewards).astype(np.float32),
        )

    def _begin_decision(self, step: RolloutStep) -> None:
        """Compute loss to go and load of all pairs of a decision, [rollout, w_bits, a_bits]; infinite if too costly."""
        decision, rows = step.decision, np.arange(len(self._left))
        if self._step is not None:
            before = step.bits[:, self._step[0]] - 1
            self._left = self._left - self._loads.of_pairs[self._step[0], before[:, 0], before[:, 1]]
            taken = self._curves.terms[self._models, self._step[0]]
            self._value = self._value - taken[rows, 0, before[:, 0]] - taken[rows, 1, before[:, 1]]
        terms, shape = self._curves.terms[self._models, decision], self._allowed.shape[1:]
        behind = np.maximum(self._left[:, None, None] - self._loads.of_pairs[decision], 0)
        behind = self._curves.losses_to_go(self._models, decision + 1, behind)
        values = terms[:, 0, : shape[0], None] + terms[:, 1, None, : shape[1]] + behind
        fits = self._fits(decision)
        self._pair_values = np.where(fits, values, np.inf)
        self._pair_loads = np.where(fits, self._loads.of_pairs[decision], np.inf)

    def _fits(self, decision: int) -> NDArray[np.bool_]:
        """Mask of the pairs after which the decisions behind still fit, [rollout, w_bits, a_bits]."""
        needed = self._loads.of_pairs[decision] + self._loads.least_after[decision]
        fits = needed <= (self._left * (1 + _TOLERANCE))[:, None, None]
        cheapest = np.where(self._allowed[decision], self._loads.of_pairs[decision], np.inf)
        fits |= cheapest == cheapest.min()
        return np.asarray(fits & self._allowed[decision])

    def _finish_step(self, bits: IntArray) -> None:
        """Reward the step before, whose bits are known now."""
        if self._step is None:
            return
        widths = bits[:, self._step[0], self._step[1]]
        value = self._by_width[np.arange(len(widths)), widths - 1]
        value = np.where(np.isfinite(value), value, self._value + self._scale)
        self._widths.append(widths)
        self._rewards.append((self._value - value) / self._scale)
        self._value = value

    def _progress(self, decision: int, column: int) -> FloatArray:
        rows, last = np.ones(len(self._left)), max(len(self._allowed) - 1, 1)
        largest = np.where(self._allowed[decision], self._loads.of_pairs[decision], 0.0).max()
        largest = largest / max(self._loads.largest, self._loads.least)
        columns = (
            rows * (decision / last),
            rows * column,
            self._curves.positions(self._models, decision, self._left),
            np.log(np.maximum(self._left / self._limits, np.exp(-6))) / 6,
            np.log(np.maximum(self._value / self._scale, 1e-3)),
            rows * largest,
        )
        return np.stack(columns, axis=1)

    def _choices(self, load: FloatArray) -> FloatArray:
        """Excess loss to go and load of every width, `NOT_SELECTABLE` where it may not be chosen."""
        excess = (self._by_width - self._value[:, None]) / self._scale[:, None]
        excess = np.minimum(np.sqrt(np.maximum(excess, 0) * 4), NOT_SELECTABLE)
        share = np.minimum(load / np.maximum(self._left, 1e-12)[:, None], 1)
        padded = np.full((2, len(load), WIDTHS), NOT_SELECTABLE)
        is_selectable = np.isfinite(self._by_width)
        for columns, values in zip(padded, (excess, share), strict=True):
            columns[:, : load.shape[1]] = np.where(is_selectable, values, NOT_SELECTABLE)
        return np.concatenate(padded, axis=1)

    def _prices(self, step: RolloutStep) -> FloatArray:
        return (self._curves.bits[self._models, :, step.decision, step.column] - 5) / 3.0

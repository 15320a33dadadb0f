"""Search space of a network on a device: allowed pairs of bits of every decision, their costs, and the budgets.

Arrays are [decision, w_bits, a_bits] with index = bits - 1. A decision is a layer together with all layers tied to it.
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial

import numpy as np
from numpy.typing import NDArray

from envs.pairs import MAX_BITS, Upgrade, cheapest_pairs, dominated_pairs, feasible_policy, upgrades_of
from hardware_sim.cost import Objective

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
REL_TOLERANCE = 1e-12
"""Relative excess over a limit that counts as rounding: sums of the same costs in another order differ by less."""


class BudgetError(ValueError):
    """No policy can meet the budget."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Upper limit of a cost.

    Args:
        objective: Name of the cost.
        limit: Seconds or joules of the whole batch, bytes, or bit operations.

    Raises:
        BudgetError: The limit is not a positive number.
    """

    objective: Objective
    limit: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.limit) and self.limit > 0):
            raise BudgetError(f"the {self.objective} budget must be a positive number, got {self.limit}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedBits:
    """Widths to choose from.

    Args:
        min_bits: Smallest width.
        max_bits: Largest width.
        a_bits: Fixed width of all activations, as under the size objective; None leaves them free.
        pinned: Fixed (w_bits, a_bits) by name of layer; None pins the first and the last layer to 8 bits.
        legal: Pairs (w_bits, a_bits) that a deployment target takes, by name of layer; all are legal for a layer that
            is missing.

    Raises:
        ValueError: A width is outside 1 to 8, or the range is empty.
    """

    min_bits: int = 2
    max_bits: int = MAX_BITS
    a_bits: int | None = None
    pinned: Mapping[str, tuple[int, int]] | None = None
    legal: Mapping[str, Set[tuple[int, int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= self.min_bits <= self.max_bits <= MAX_BITS:
            raise ValueError(f"bits must satisfy 1 <= min <= max <= 8, got {self.min_bits} and {self.max_bits}")
        if self.a_bits is not None and not 1 <= self.a_bits <= MAX_BITS:
            raise ValueError(f"a_bits must lie in 1 to 8, got {self.a_bits}")
        for name, pair in (self.pinned or {}).items():
            if not all(1 <= bits <= MAX_BITS for bits in pair):
                raise ValueError(f"{name!r} is pinned to {pair[0]} and {pair[1]} bits; both must lie in 1 to 8")

    def uniform(self, name: str, bits: int) -> tuple[int, int]:
        """Return the bits of a layer in a policy that gives all free layers the same bits.

        Args:
            name: Name of the layer.
            bits: Width of free weights and activations.

        Returns:
            (w_bits, a_bits) of the layer.

        Example:
            >>> AllowedBits(a_bits=8, pinned={"first": (8, 8)}).uniform("second", 4)
            (4, 8)
        """
        return (self.pinned or {}).get(name, (bits, self.a_bits or bits))

    def nearest_legal(self, name: str, pair: tuple[int, int]) -> tuple[int, int]:
        """Return the legal pair that is nearest to a pair.

        Args:
            name: Name of the layer.
            pair: (w_bits, a_bits).

        Returns:
            The pair of least summed difference, of equally near ones that of fewer bits.

        Example:
            >>> AllowedBits(legal={"conv": {(2, 8), (8, 8)}}).nearest_legal("conv", (6, 6))
            (8, 8)
        """
        legal = self.legal.get(name, {pair})
        return min(sorted(legal), key=lambda each: abs(each[0] - pair[0]) + abs(each[1] - pair[1]))


@dataclass(frozen=True, eq=False)
class Choices:
    """Allowed pairs of bits of every decision, their costs, and the limits of the summed costs."""

    names: tuple[str, ...]
    """Name of the first layer of every decision."""
    decision_of_layer: tuple[int, ...]
    """[layer]"""
    allowed: BoolArray
    """[decision, w_bits, a_bits]"""
    cost: FloatArray
    """[constraint, decision, w_bits, a_bits]; the first constraint is the objective's."""
    limits: FloatArray
    """[constraint]"""
    constraint_names: tuple[str, ...]

    @cached_property
    def layer_of_decision(self) -> tuple[int, ...]:
        """Position of the first layer of every decision."""
        first = {decision: layer for layer, decision in reversed(list(enumerate(self.decision_of_layer)))}
        return tuple(first[decision] for decision in range(len(self.names)))

    def total(self, bits: IntArray) -> FloatArray:
        """Sum the costs of a policy.

        Args:
            bits: The policy, [decision, 2].

        Returns:
            Cost [constraint].
        """
        return np.asarray(self.cost[:, np.arange(len(bits)), bits[:, 0] - 1, bits[:, 1] - 1].sum(axis=1))

    def fits(self, bits: IntArray) -> bool:
        """Check whether a policy is within every limit, up to rounding.

        Args:
            bits: The policy, [decision, 2].

        Returns:
            Whether it is.
        """
        return bool((self.total(bits) <= self.max_totals).all())

    @property
    def max_totals(self) -> FloatArray:
        """Largest sums that `fits` accepts, [constraint]: slightly above the limits, as sums are rounded."""
        return self.limits * (1 + REL_TOLERANCE)

    @property
    def capacity(self) -> FloatArray:
        """Limits for budget rules, [constraint]: slightly below what `fits` accepts, as their sums are rounded too."""
        return self.limits * (1 + REL_TOLERANCE / 2)

    @property
    def min_totals(self) -> FloatArray:
        """Smallest possible sum of each constraint alone, [constraint]."""
        return np.asarray(np.where(self.allowed, self.cost, np.inf).min(axis=(2, 3)).sum(axis=1))

    def expand(self, bits: IntArray) -> IntArray:
        """Expand a policy from decisions to layers; tied layers share their bits.

        Args:
            bits: The policy, [decision, 2].

        Returns:
            The policy, [layer, 2].
        """
        return bits[list(self.decision_of_layer)]

    def decisions(self, bits: IntArray) -> IntArray:
        """Reduce a policy from layers to decisions, the inverse of `expand`.

        Args:
            bits: The policy, [layer, 2].

        Returns:
            The policy, [decision, 2]: that of the first layer of every decision.
        """
        return bits[list(self.layer_of_decision)]

    def allows(self, bits: IntArray) -> bool:
        """Check whether the bits of a policy may be chosen, whatever they cost.

        Args:
            bits: The policy, [decision, 2], of 1 to 8 bits each.

        Returns:
            Whether they may.
        """
        return bool(self.allowed[np.arange(len(bits)), bits[:, 0] - 1, bits[:, 1] - 1].all())

    def nearest(self, bits: IntArray) -> IntArray:
        """Replace the bits of every decision by the nearest allowed pair, whatever it costs.

        The distance of two pairs is the sum of the differences of w_bits and of a_bits. Of equally near pairs the one
        of fewer w_bits is taken, then of fewer a_bits.

        Args:
            bits: Any policy, [decision, 2].

        Returns:
            A policy of allowed pairs, which may exceed the limits, [decision, 2].
        """
        w, a = (np.arange(1, count + 1) for count in self.allowed.shape[1:])
        distance = np.abs(bits[:, 0, None, None] - w[:, None]) + np.abs(bits[:, 1, None, None] - a)
        nearest = np.where(self.allowed, distance, np.inf).reshape(len(bits), -1).argmin(axis=1)
        return np.stack(np.divmod(nearest, len(a)), axis=1).astype(np.int64) + 1

    def with_limit(self, limit: float) -> "Choices":
        """Return the same choices with another limit for the objective's cost.

        Args:
            limit: Limit in the unit of the first cost.

        Returns:
            The changed copy.
        """
        return replace(self, limits=np.array([limit, *self.limits[1:]]))

    @cached_property
    def reserve(self) -> IntArray:
        """A policy [decision, 2] within every limit, as cheap as possible; undecided layers fall back to it.

        Raises:
            BudgetError: There is none; the message names the smallest possible cost.
        """
        cheapest = cheapest_pairs(self.cost[0], self.allowed, tie_break=self.cost[1:].sum(axis=0))
        if self.fits(cheapest):
            return cheapest
        balanced = cheapest_pairs((self.cost / self.limits[:, None, None, None]).sum(axis=0), self.allowed)
        if self.fits(balanced):
            return balanced
        solved = self._feasible_policy() if len(self.limits) > 1 else None
        if solved is None:
            raise BudgetError(_infeasibility_message(self))
        return solved

    @cached_property
    def has_one_policy(self) -> bool:
        """Whether a single policy is within every limit.

        Raises:
            BudgetError: There is none.
        """
        bits, changes = self.reserve, self.allowed.copy()
        rows, w, a = np.arange(len(bits)), bits[:, 0] - 1, bits[:, 1] - 1
        changes[rows, w, a] = False
        changed = self.total(bits)[:, None, None, None] + self.cost - self.cost[:, rows, w, a][:, :, None, None]
        if (changes & (changed <= self.max_totals[:, None, None, None]).all(axis=0)).any():
            return False
        # Under one limit the reserve is the cheapest policy, so several changes together cost more than one alone.
        return len(self.limits) == 1 or self._feasible_policy(other_than=bits) is None

    def _feasible_policy(self, *, other_than: IntArray | None = None) -> IntArray | None:
        load = self.cost / self.limits[:, None, None, None]
        return feasible_policy(load, self.allowed, self.fits, other_than=other_than)

    @cached_property
    def upgrades(self) -> Callable[[int, int], tuple[Upgrade, ...]]:
        """Function from decision and pair (numbered as `Upgrade.pair`) to the upgrades, the cheapest bits first."""
        return cache(partial(upgrades_of, self.cost, self.allowed))

    def require_feasible(self) -> None:
        """Check that some policy is within every limit.

        Raises:
            BudgetError: There is none; the message names the smallest possible cost.
        """
        _ = self.reserve

    def without_dominated(self) -> "Choices":
        """Drop dominated pairs: another pair has no fewer bits, and costs no more under any constraint.

        Returns:
            The same choices with fewer allowed pairs.
        """
        return replace(self, allowed=self.allowed & ~dominated_pairs(self.cost, self.allowed))


def _infeasibility_message(choices: Choices) -> str:
    """Describe in one line which budget no policy can meet, and the smallest possible cost."""
    for name, least, limit in zip(choices.constraint_names, choices.min_totals, choices.limits, strict=True):
        if least > limit:
            return f"no policy meets the {name} budget of {limit:.6g}: the cheapest allowed bits cost {least:.6g}"
    return f"no policy meets all of the budgets at once: {', '.join(choices.constraint_names)}"

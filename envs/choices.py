"""What may be chosen: the pairs of bits of every decision, what they cost, and how much there is to spend.

Arrays are [decision, w_bits, a_bits] with index = bits - 1. A decision is a layer together with all layers tied to it.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from hardware_sim.cost import CostTable, Objective, UnsupportedError
from hardware_sim.layer import decision_index

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
MAX_BITS = 8
REL_TOLERANCE = 1e-12
"""Relative excess over a limit that counts as rounding: sums of the same costs in another order differ by less."""


class BudgetError(ValueError):
    """No policy can meet the budget."""


@dataclass(frozen=True, slots=True)
class Budget:
    """An upper limit: seconds, joules (both of the whole batch), bytes or bit operations, by objective."""

    objective: Objective
    limit: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.limit) and self.limit > 0):
            raise BudgetError(f"the {self.objective} budget must be a positive number, got {self.limit}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedBits:
    """The widths to choose from.

    `a_bits` fixes all activations, as the size objective does. `pinned` maps names of layers to (w_bits, a_bits) that
    always hold; None pins the first and the last layer to 8 bits.
    """

    min_bits: int = 2
    max_bits: int = MAX_BITS
    a_bits: int | None = None
    pinned: Mapping[str, tuple[int, int]] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.min_bits <= self.max_bits <= MAX_BITS:
            raise ValueError(f"bits must satisfy 1 <= min <= max <= 8, got {self.min_bits} and {self.max_bits}")
        if self.a_bits is not None and not 1 <= self.a_bits <= MAX_BITS:
            raise ValueError(f"a_bits must lie in 1 to 8, got {self.a_bits}")
        for name, pair in (self.pinned or {}).items():
            if not all(1 <= bits <= MAX_BITS for bits in pair):
                raise ValueError(f"{name!r} is pinned to {pair[0]} and {pair[1]} bits; both must lie in 1 to 8")

    def uniform(self, name: str, bits: int) -> tuple[int, int]:
        """A layer's (w_bits, a_bits) when all that are free to choose have the same bits.

        >>> AllowedBits(a_bits=8, pinned={"first": (8, 8)}).uniform("second", 4)
        (4, 8)
        """
        return (self.pinned or {}).get(name, (bits, self.a_bits or bits))


class Upgrade(NamedTuple):
    """A step from one pair of bits to another with more."""

    price: float
    """What a further bit costs of the first constraint."""
    pair: int
    """(w_bits - 1) * MAX_BITS + a_bits - 1"""
    added: tuple[float, ...]
    """[constraint]"""


@dataclass(frozen=True, eq=False)
class Choices:
    """The pairs of bits that every decision may take, what they cost, and the limits of the sums."""

    names: tuple[str, ...]
    decision_of_layer: tuple[int, ...]
    allowed: BoolArray
    """[decision, w_bits, a_bits]"""
    cost: FloatArray
    """[constraint, decision, w_bits, a_bits]; the first constraint is the objective's."""
    limits: FloatArray
    """[constraint]"""
    constraint_names: tuple[str, ...]

    @property
    def layer_of_decision(self) -> tuple[int, ...]:
        """The first layer of every decision, by position."""
        return tuple(self.decision_of_layer.index(decision) for decision in range(len(self.names)))

    def total(self, bits: IntArray) -> FloatArray:
        """The summed cost [constraint] of bits [decision, 2]."""
        return np.asarray(self.cost[:, np.arange(len(bits)), bits[:, 0] - 1, bits[:, 1] - 1].sum(axis=1))

    def fits(self, bits: IntArray) -> bool:
        """Whether a policy is within every limit, up to rounding."""
        return bool((self.total(bits) <= self.limits * (1 + REL_TOLERANCE)).all())

    @property
    def capacity(self) -> FloatArray:
        """What a rule may spend, [constraint]: short of what `fits` accepts, as its sums are rounded too."""
        return self.limits * (1 + REL_TOLERANCE / 2)

    @property
    def min_totals(self) -> FloatArray:
        """Smallest possible sum of each constraint alone, [constraint]."""
        return np.asarray(np.where(self.allowed, self.cost, np.inf).min(axis=(2, 3)).sum(axis=1))

    def expand(self, bits: IntArray) -> IntArray:
        """Bits [layer, 2] from bits [decision, 2]: tied layers share theirs."""
        return bits[list(self.decision_of_layer)]

    @cached_property
    def reserve(self) -> IntArray:
        """A policy [decision, 2] within every limit, as cheap as can be: what the rest of a walk can fall back to.

        Raises BudgetError, naming the smallest possible cost, if there is none.
        """
        cheapest = _cheapest(self.cost[0], self.allowed, tie_break=self.cost[1:].sum(axis=0))
        if self.fits(cheapest):
            return cheapest
        balanced = _cheapest((self.cost / self.limits[:, None, None, None]).sum(axis=0), self.allowed)
        if self.fits(balanced):
            return balanced
        solved = _solve(self) if len(self.limits) > 1 else None
        if solved is None:
            raise BudgetError(_infeasibility_message(self))
        return solved

    @cached_property
    def has_one_policy(self) -> bool:
        """Whether a single policy is within every limit. Raises BudgetError if there is none."""
        bits, changes = self.reserve, self.allowed.copy()
        rows, w, a = np.arange(len(bits)), bits[:, 0] - 1, bits[:, 1] - 1
        changes[rows, w, a] = False
        changed = self.total(bits)[:, None, None, None] + self.cost - self.cost[:, rows, w, a][:, :, None, None]
        if (changes & (changed <= (self.limits * (1 + REL_TOLERANCE))[:, None, None, None]).all(axis=0)).any():
            return False
        # Under one limit the reserve is the cheapest, so that a change of several decisions costs more than one alone.
        return len(self.limits) == 1 or _solve(self, other_than=bits) is None

    @cached_property
    def upgrades(self) -> Callable[[int, int], tuple[Upgrade, ...]]:
        """The allowed steps of a decision from a pair, as `Upgrade.pair` counts them, the cheapest bits first."""
        return cache(partial(_upgrades, self.cost, self.allowed))

    def require_feasible(self) -> None:
        """Raise BudgetError, naming the smallest possible cost, if no policy is within every limit."""
        _ = self.reserve

    def without_dominated(self) -> "Choices":
        """The same without pairs that another pair beats: no fewer bits anywhere, and no constraint pays more."""
        return Choices(
            self.names,
            self.decision_of_layer,
            self.allowed & ~_dominated(self.cost, self.allowed),
            self.cost,
            self.limits,
            self.constraint_names,
        )


def choices(table: CostTable, budgets: Sequence[Budget], bits: AllowedBits) -> Choices:
    """Set the choice up: sum tied layers, forbid what is out of range, pin what is pinned.

    The device's own limits are constraints like the budgets. Raises ValueError for a pin that names no layer or where
    there is no budget, and UnsupportedError for a pair in range that the device does not know.
    """
    if not budgets:
        raise ValueError("there is no budget: give at least one, the objective's first")
    layers, owner = table.layers, decision_index(table.layers)
    decisions = sorted(set(owner))
    order = {layer: number for number, layer in enumerate(decisions)}
    decision_of_layer = tuple(order[layer] for layer in owner)
    names = tuple(layers[layer].name for layer in decisions)
    allowed = _allowed(names, bits, ends={names[decision_of_layer[0]], names[decision_of_layer[-1]]})
    tables = [table.of(budget.objective) for budget in budgets] + [limit.table for limit in table.limits]
    cost = np.zeros((len(tables), len(names), MAX_BITS, MAX_BITS))
    for constraint, array in zip(cost, tables, strict=True):
        np.add.at(constraint, list(decision_of_layer), array[:, :MAX_BITS, :MAX_BITS])
    _refuse_unknown(table.hardware, names, np.isnan(cost).any(axis=0) & allowed)
    return Choices(
        names,
        decision_of_layer,
        allowed,
        np.nan_to_num(cost, nan=np.inf),
        np.array([budget.limit for budget in budgets] + [limit.value for limit in table.limits]),
        tuple([budget.objective for budget in budgets] + [limit.name for limit in table.limits]),
    )


def _upgrades(cost: FloatArray, allowed: BoolArray, decision: int, pair: int) -> tuple[Upgrade, ...]:
    costs = cost[:, decision].reshape(len(cost), -1)
    w, a = np.divmod(np.arange(MAX_BITS**2), MAX_BITS)
    more = np.where((w >= w[pair]) & (a >= a[pair]), w + a - w[pair] - a[pair], 0)
    (better,) = np.nonzero(allowed[decision].ravel() & (more > 0))
    added = costs[:, better] - costs[:, pair, None]
    prices = added[0] / more[better]
    return tuple(sorted(map(Upgrade, prices.tolist(), better.tolist(), map(tuple, added.T.tolist()))))


def _allowed(names: tuple[str, ...], bits: AllowedBits, *, ends: Set[str]) -> BoolArray:
    """`ends`: the decisions of the first and of the last layer that runs."""
    allowed = np.zeros((len(names), MAX_BITS, MAX_BITS), dtype=np.bool_)
    a_range = (
        slice(bits.a_bits - 1, bits.a_bits) if bits.a_bits is not None else slice(bits.min_bits - 1, bits.max_bits)
    )
    allowed[:, bits.min_bits - 1 : bits.max_bits, a_range] = True
    pinned = dict.fromkeys(ends, (8, 8)) if bits.pinned is None else bits.pinned
    for name, (w_bits, a_bits) in pinned.items():
        if name not in names:
            raise ValueError(f"{name!r} is pinned but decides no bits; the layers that do are {', '.join(names)}")
        allowed[names.index(name)] = False
        allowed[names.index(name), w_bits - 1, a_bits - 1] = True
    return allowed


def _refuse_unknown(hardware: str, names: tuple[str, ...], unknown: BoolArray) -> None:
    missing = [f"{names[d]} at {w + 1}x{a + 1}" for d, w, a in np.argwhere(unknown)]
    if missing:
        more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
        raise UnsupportedError(f"{hardware} has no cost for {', '.join(missing[:4])}{more} (weight x activation bits)")


def _cheapest(cost: FloatArray, allowed: BoolArray, *, tie_break: FloatArray | None = None) -> IntArray:
    """The allowed pair of least cost for every decision; of equally cheap ones the one with the most bits."""
    pairs = np.where(allowed, cost, np.inf).reshape(len(cost), -1)
    second = np.zeros_like(pairs) if tie_break is None else tie_break.reshape(len(cost), -1)
    bits = np.add.outer(np.arange(MAX_BITS), np.arange(MAX_BITS)).ravel()
    best = [np.lexsort((-bits, *keys))[0] for keys in zip(second, pairs, strict=True)]
    return np.stack(np.divmod(np.array(best), MAX_BITS), axis=1).astype(np.int64) + 1


def _dominated(cost: FloatArray, allowed: BoolArray) -> BoolArray:
    flat, open_pairs = cost.reshape(*cost.shape[:2], -1), allowed.reshape(len(allowed), -1)
    w, a = np.divmod(np.arange(MAX_BITS**2), MAX_BITS)
    has_more = (w[None] >= w[:, None]) & (a[None] >= a[:, None]) & ~np.eye(MAX_BITS**2, dtype=np.bool_)
    beaten = np.zeros_like(open_pairs)
    for decision, is_open in enumerate(open_pairs):
        no_dearer = (flat[:, decision, None, :] <= flat[:, decision, :, None]).all(axis=0)
        beaten[decision] = (has_more & no_dearer & is_open[None, :]).any(axis=1)
    return np.asarray(beaten.reshape(allowed.shape))


def _solve(choice: Choices, *, other_than: IntArray | None = None) -> IntArray | None:
    """A policy within several limits at once, by mixed-integer programming; None if there is none.

    `other_than`: bits [decision, 2], of which at least one decision has to differ.
    """
    where = np.argwhere(choice.allowed)
    one_each = (where[:, 0][None, :] == np.arange(len(choice.names))[:, None]).astype(float)
    load = choice.cost[:, where[:, 0], where[:, 1], where[:, 2]] / choice.limits[:, None]
    constraints = [LinearConstraint(one_each, 1, 1)]
    if other_than is not None:
        kept = (where[:, 1:] + 1 == other_than[where[:, 0]]).all(axis=1)
        constraints.append(LinearConstraint(kept.astype(float), ub=len(other_than) - 1))
    # The solver lets a sum exceed its bound by 1e-6; where it did, a margin as wide keeps the next answer honest.
    for margin in (0.0, 1e-6, 1e-5):
        result = milp(
            load.sum(axis=0),
            constraints=[*constraints, LinearConstraint(load, ub=1 - margin)],
            integrality=np.ones(len(where)),
            bounds=Bounds(0, 1),
        )
        bits = None if result.x is None else np.asarray(where[result.x > 0.5][:, 1:] + 1, dtype=np.int64)
        if bits is not None and choice.fits(bits):
            return bits
    return None


def _infeasibility_message(choice: Choices) -> str:
    """One line that says which budget no policy can meet, and the least that it would take."""
    for name, least, limit in zip(choice.constraint_names, choice.min_totals, choice.limits, strict=True):
        if least > limit:
            return f"no policy meets the {name} budget of {limit:.6g}: the cheapest allowed bits cost {least:.6g}"
    return f"no policy meets all of the budgets at once: {', '.join(choice.constraint_names)}"

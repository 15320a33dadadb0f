"""Operations on pairs of bits, arrays [decision, w_bits, a_bits] with index = bits - 1."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
MAX_BITS = 8
INTEGER_WIDTHS = np.arange(1, MAX_BITS + 1)
"""Widths along both bit axes of the arrays of choices; cost tables also have float (`hardware_sim.cost.WIDTHS`)."""


def costs_of_pairs(cost: FloatArray, decision: int, pairs: IntArray) -> FloatArray:
    """Return the costs of pairs of bits of one decision.

    Args:
        cost: Costs [constraint, decision, w_bits, a_bits].
        decision: Position of the decision.
        pairs: Bits [..., 2].

    Returns:
        Costs [..., constraint].
    """
    return np.asarray(cost[:, decision, pairs[..., 0] - 1, pairs[..., 1] - 1].T)


class Upgrade(NamedTuple):
    """A change of one decision from one pair of bits to another with more bits."""

    price: float
    """Cost per additional bit under the first constraint."""
    pair: int
    """(w_bits - 1) * MAX_BITS + a_bits - 1"""
    added: tuple[float, ...]
    """Additional cost, [constraint]."""


def upgrades_of(cost: FloatArray, allowed: BoolArray, decision: int, pair: int) -> tuple[Upgrade, ...]:
    """List the upgrades of one decision from a pair.

    Args:
        cost: Costs [constraint, decision, w_bits, a_bits].
        allowed: Mask [decision, w_bits, a_bits].
        decision: Position of the decision.
        pair: Current pair, numbered as `Upgrade.pair`.

    Returns:
        Upgrades to allowed pairs, the cheapest bits first.
    """
    costs = cost[:, decision].reshape(len(cost), -1)
    w, a = np.divmod(np.arange(MAX_BITS**2), MAX_BITS)
    more = np.where((w >= w[pair]) & (a >= a[pair]), w + a - w[pair] - a[pair], 0)
    (better,) = np.nonzero(allowed[decision].ravel() & (more > 0))
    added = costs[:, better] - costs[:, pair, None]
    prices = added[0] / more[better]
    return tuple(sorted(map(Upgrade, prices.tolist(), better.tolist(), map(tuple, added.T.tolist()))))


def cheapest_pairs(cost: FloatArray, allowed: BoolArray, *, tie_break: FloatArray | None = None) -> IntArray:
    """Return the allowed pair of least cost of every decision.

    Args:
        cost: Costs [decision, w_bits, a_bits].
        allowed: Mask [decision, w_bits, a_bits].
        tie_break: Second criterion of the same shape; then the pair with the most bits is chosen.

    Returns:
        A policy [decision, 2].
    """
    pairs = np.where(allowed, cost, np.inf).reshape(len(cost), -1)
    second = np.zeros_like(pairs) if tie_break is None else tie_break.reshape(len(cost), -1)
    bits = np.add.outer(np.arange(MAX_BITS), np.arange(MAX_BITS)).ravel()
    best = [np.lexsort((-bits, *keys))[0] for keys in zip(second, pairs, strict=True)]
    return np.stack(np.divmod(np.array(best), MAX_BITS), axis=1).astype(np.int64) + 1


def dominated_pairs(cost: FloatArray, allowed: BoolArray) -> BoolArray:
    """Find the pairs to which another pair is preferable: no fewer bits, and no constraint costs more.

    Args:
        cost: Costs [constraint, decision, w_bits, a_bits].
        allowed: Mask [decision, w_bits, a_bits].

    Returns:
        Mask [decision, w_bits, a_bits].
    """
    flat, open_pairs = cost.reshape(*cost.shape[:2], -1), allowed.reshape(len(allowed), -1)
    w, a = np.divmod(np.arange(MAX_BITS**2), MAX_BITS)
    has_more = (w[None] >= w[:, None]) & (a[None] >= a[:, None]) & ~np.eye(MAX_BITS**2, dtype=np.bool_)
    dominated = np.zeros_like(open_pairs)
    for decision, is_open in enumerate(open_pairs):
        costs_no_more = (flat[:, decision, None, :] <= flat[:, decision, :, None]).all(axis=0)
        dominated[decision] = (has_more & costs_no_more & is_open[None, :]).any(axis=1)
    return np.asarray(dominated.reshape(allowed.shape))


def feasible_policy(
    load: FloatArray, allowed: BoolArray, fits: Callable[[IntArray], bool], *, other_than: IntArray | None = None
) -> IntArray | None:
    """Find a policy within several limits by mixed-integer programming.

    Args:
        load: Costs relative to their limits, [constraint, decision, w_bits, a_bits].
        allowed: Mask [decision, w_bits, a_bits].
        fits: Exact check of a policy, as the solver has a tolerance.
        other_than: A policy [decision, 2] from which at least one decision has to differ.

    Returns:
        The policy of least summed load, [decision, 2]; None if there is none.
    """
    where = np.argwhere(allowed)
    one_each = (where[:, 0][None, :] == np.arange(len(allowed))[:, None]).astype(float)
    load = load[:, where[:, 0], where[:, 1], where[:, 2]]
    constraints = [LinearConstraint(one_each, 1, 1)]
    if other_than is not None:
        kept = (where[:, 1:] + 1 == other_than[where[:, 0]]).all(axis=1)
        constraints.append(LinearConstraint(kept.astype(float), ub=len(other_than) - 1))
    # The solver's feasibility tolerance is 1e-6; where its answer exceeds a limit, solve again with a margin.
    for margin in (0.0, 1e-6, 1e-5):
        result = milp(
            load.sum(axis=0),
            constraints=[*constraints, LinearConstraint(load, ub=1 - margin)],
            integrality=np.ones(len(where)),
            bounds=Bounds(0, 1),
        )
        bits = None if result.x is None else np.asarray(where[result.x > 0.5][:, 1:] + 1, dtype=np.int64)
        if bits is not None and fits(bits):
            return bits
    return None

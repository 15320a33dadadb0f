"""Budget rules: bring a policy under its budgets, and spend what is left of them."""

from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush
from operator import le

import numpy as np

from envs.choices import BoolArray, Choices, FloatArray, IntArray
from envs.pairs import INTEGER_WIDTHS, MAX_BITS, Upgrade

_ROUNDING = 1e-9
"""Relative difference of sums in another order; far above what it is."""


def spend_remaining(choices: Choices, bits: IntArray) -> IntArray:
    """Spend the remaining budget greedily: add bits where a further bit costs least, until no upgrade fits.

    Of equally cheap upgrades the first by decision, then by bits.

    Args:
        choices: Allowed bits and their costs.
        bits: A policy within the budgets, [decision, 2].

    Returns:
        The policy with more bits, [decision, 2].
    """
    bits = bits.copy()
    slack = (choices.capacity - choices.total(bits)).tolist()
    waiting = _waiting(choices, bits, slack, range(len(bits)))
    heapify(waiting)
    while waiting:
        _, decision, upgrade = heappop(waiting)
        if _fits(upgrade, slack):
            bits[decision] = np.add(divmod(upgrade.pair, MAX_BITS), 1)
            slack = [left - added for left, added in zip(slack, upgrade.added, strict=True)]
            if min(upgrade.added) < 0:  # some limit has more slack than before: other upgrades may fit now
                waiting = _waiting(choices, bits, slack, range(len(bits)))
                heapify(waiting)
                continue
        for each in _waiting(choices, bits, slack, [decision]):
            heappush(waiting, each)
    return bits


def _waiting(
    choices: Choices, bits: IntArray, slack: list[float], decisions: Iterable[int]
) -> list[tuple[float, int, Upgrade]]:
    """Return price, decision and upgrade of the first upgrade of each decision that fits."""
    steps = ((each, _first_that_fits(choices.upgrades(each, _flat(bits[each])), slack)) for each in decisions)
    return [(step.price, decision, step) for decision, step in steps if step is not None]


def _flat(pair: IntArray) -> int:
    """Number a pair of bits [2] in the way of `Upgrade.pair`."""
    w_bits, a_bits = pair.tolist()
    return int((w_bits - 1) * MAX_BITS + a_bits - 1)


def _first_that_fits(upgrades: Sequence[Upgrade], slack: list[float]) -> Upgrade | None:
    return next((each for each in upgrades if _fits(each, slack)), None)


def _fits(upgrade: Upgrade, slack: list[float]) -> bool:
    return all(map(le, upgrade.added, slack))


def project(choices: Choices, bits: IntArray) -> IntArray:
    """Replace a policy by a similar one of allowed pairs within every budget.

    First every decision takes the nearest allowed pair. While a budget is exceeded, one decision changes to the pair of
    fewer bits that saves most of the exceeded budgets per bit. If no such change saves anything although a budget is
    exceeded, the policy becomes `Choices.reserve`. `spend_remaining` then spends what is left of the budgets.
    Projecting a policy twice gives the same as once.

    Args:
        choices: Allowed bits and their costs.
        bits: Any policy, [decision, 2].

    Returns:
        A policy within every budget, [decision, 2].

    Raises:
        BudgetError: No policy is within every budget.
    """
    bits = choices.nearest(bits)
    everything = np.arange(len(bits))
    savings, changed, exceeded = np.zeros(choices.allowed.shape), everything, np.zeros(len(choices.limits), bool)
    while not choices.fits(bits):
        before, exceeded = exceeded, choices.total(bits) > choices.limits
        rows = changed if (before == exceeded).all() else everything
        savings[rows] = _savings_per_bit(choices, bits, exceeded, rows)
        if not savings.max() > 0:
            return spend_remaining(choices, choices.reserve)
        decision, w, a = np.unravel_index(int(savings.argmax()), savings.shape)
        bits[decision] = (w + 1, a + 1)
        changed = np.array([decision])
    return spend_remaining(choices, bits)


def _savings_per_bit(choices: Choices, bits: IntArray, exceeded: BoolArray, rows: IntArray) -> FloatArray:
    """Cost that every pair of some decisions saves for each bit less, relative to the exceeded budgets and summed.

    Args:
        choices: Allowed bits and their costs.
        bits: A policy, [decision, 2].
        exceeded: Whether each budget is exceeded, [constraint].
        rows: The decisions, [row].

    Returns:
        Savings [row, w_bits, a_bits]; 0 for pairs that are not allowed, have more bits of either kind or save nothing.
    """
    chosen, costs = bits[rows], choices.cost[exceeded][:, rows]
    current = choices.cost[exceeded][:, rows, chosen[:, 0] - 1, chosen[:, 1] - 1]
    saved = ((current[:, :, None, None] - costs) / choices.limits[exceeded, None, None, None]).sum(axis=0)
    fewer = _bits_fewer(chosen)
    return np.where(choices.allowed[rows] & (fewer > 0) & (saved > 0), saved / np.maximum(fewer, 1), 0.0)


def _bits_fewer(bits: IntArray) -> IntArray:
    """Bits that every pair saves, [row, w_bits, a_bits]; 0 for a pair with more w_bits or more a_bits."""
    w = bits[:, 0, None, None] - INTEGER_WIDTHS[:, None]
    a = bits[:, 1, None, None] - INTEGER_WIDTHS
    return np.where((w >= 0) & (a >= 0), w + a, 0)


def lower_in_sequence(choices: Choices, bits: IntArray) -> IntArray:
    """Lower bits by the rule of the HAQ paper: one at a time, last layer first, activations before weights.

    Widths that are not allowed are skipped.

    Stops as soon as the budgets are met. Where fewer bits can cost more, a policy may still exceed a budget when no
    layer can be lowered any further.

    Args:
        choices: Allowed bits and their costs.
        bits: A policy, [decision, 2].

    Returns:
        The lowered policy, [decision, 2].
    """
    bits, total = bits.copy(), choices.total(bits)
    # `fits` sums the costs of all decisions: it is asked only where the sum of changes is not clearly too large.
    nearly = choices.max_totals * (1 + _ROUNDING)
    while not choices.fits(bits):
        before = bits.copy()
        for decision in reversed(range(len(bits))):
            for column in (1, 0):
                total -= _cost(choices, decision, bits)
                bits[decision, column] = _next_lower(choices, decision, bits[decision], column)
                total += _cost(choices, decision, bits)
                if (total <= nearly).all() and choices.fits(bits):
                    return bits
        if (bits == before).all():
            break
    return bits


def _cost(choices: Choices, decision: int, bits: IntArray) -> FloatArray:
    """Cost of one decision of a policy, [constraint]."""
    return choices.cost[:, decision, bits[decision, 0] - 1, bits[decision, 1] - 1]


def _next_lower(choices: Choices, decision: int, pair: IntArray, column: int) -> int:
    """Return the next lower allowed width of the weights (column 0) or activations; the same if there is none."""
    allowed = choices.allowed[decision, :, pair[1] - 1] if column == 0 else choices.allowed[decision, pair[0] - 1]
    (lower,) = np.nonzero(allowed[: pair[column] - 1])
    return int(lower[-1]) + 1 if len(lower) else int(pair[column])

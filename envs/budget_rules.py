"""Budget rules: bring a policy under its budgets, and spend what is left of them."""

from collections.abc import Sequence
from operator import le

import numpy as np

from envs.choices import Choices, FloatArray, IntArray
from envs.pairs import INTEGER_WIDTHS, MAX_BITS, Upgrade


def spend_remaining(choices: Choices, bits: IntArray) -> IntArray:
    """Spend the remaining budget greedily: add bits where a further bit costs least, until no upgrade fits.

    Of equally cheap upgrades the first by decision, then by bits.

    Args:
        choices: Allowed bits and their costs.
        bits: A policy within the budgets, [decision, 2].

    Returns:
        The policy with more bits, [decision, 2].
    """
    bits, upgrades = bits.copy(), choices.upgrades
    slack = (choices.capacity - choices.total(bits)).tolist()
    next_upgrade = [_first_that_fits(upgrades(decision, pair), slack) for decision, pair in enumerate(_flat(bits))]
    while any(next_upgrade):
        decision = min((each.price, number) for number, each in enumerate(next_upgrade) if each)[1]
        step = next_upgrade[decision]
        assert step is not None
        if _fits(step, slack):
            bits[decision] = np.add(divmod(step.pair, MAX_BITS), 1)
            slack = [left - added for left, added in zip(slack, step.added, strict=True)]
            if min(step.added) < 0:  # some limit has more slack than before: other upgrades may fit now
                next_upgrade = [_first_that_fits(upgrades(each, pair), slack) for each, pair in enumerate(_flat(bits))]
        next_upgrade[decision] = _first_that_fits(upgrades(decision, _flat(bits[None, decision])[0]), slack)
    return bits


def _flat(bits: IntArray) -> list[int]:
    """Number the pairs of bits [decision, 2] in the way of `Upgrade.pair`."""
    flat: list[int] = ((bits[:, 0] - 1) * MAX_BITS + bits[:, 1] - 1).tolist()
    return flat


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
    while not choices.fits(bits):
        fewer, saved = _bits_fewer(bits), _savings(choices, bits)
        saving_per_bit = np.where(choices.allowed & (fewer > 0) & (saved > 0), saved / np.maximum(fewer, 1), 0.0)
        if not saving_per_bit.max() > 0:
            return spend_remaining(choices, choices.reserve)
        decision, w, a = np.unravel_index(int(saving_per_bit.argmax()), saving_per_bit.shape)
        bits[decision] = (w + 1, a + 1)
    return spend_remaining(choices, bits)


def _savings(choices: Choices, bits: IntArray) -> FloatArray:
    """Cost that every pair saves, relative to the exceeded budgets and summed over them, [decision, w_bits, a_bits]."""
    current = np.asarray(choices.cost[:, np.arange(len(bits)), bits[:, 0] - 1, bits[:, 1] - 1])
    exceeded = current.sum(axis=1) > choices.limits
    saved = (current[:, :, None, None] - choices.cost)[exceeded] / choices.limits[exceeded, None, None, None]
    return np.asarray(saved.sum(axis=0))


def _bits_fewer(bits: IntArray) -> IntArray:
    """Bits that every pair saves, [decision, w_bits, a_bits]; 0 for a pair with more w_bits or more a_bits."""
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
    bits = bits.copy()
    while not choices.fits(bits):
        before = bits.copy()
        for decision in reversed(range(len(bits))):
            for column in (1, 0):
                bits[decision, column] = _next_lower(choices, decision, bits[decision], column)
                if choices.fits(bits):
                    return bits
        if (bits == before).all():
            break
    return bits


def _next_lower(choices: Choices, decision: int, pair: IntArray, column: int) -> int:
    """Return the next lower allowed width of the weights (column 0) or activations; the same if there is none."""
    allowed = choices.allowed[decision, :, pair[1] - 1] if column == 0 else choices.allowed[decision, pair[0] - 1]
    (lower,) = np.nonzero(allowed[: pair[column] - 1])
    return int(lower[-1]) + 1 if len(lower) else int(pair[column])

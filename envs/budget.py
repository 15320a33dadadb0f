"""Budget rules: bring a policy under its budget, and spend what is left of it."""

from collections.abc import Sequence
from operator import le

import numpy as np

from envs.choices import Choices, FloatArray, IntArray
from envs.pairs import MAX_BITS, Upgrade

WIDTHS = np.arange(1, MAX_BITS + 1)


def spend_remaining(choice: Choices, bits: IntArray) -> IntArray:
    """Spend the remaining budget greedily: add bits where a further bit costs least, until no upgrade fits.

    Of equally cheap upgrades the first by decision, then by bits.

    Args:
        choice: Allowed bits and their costs.
        bits: A policy within the budget, [decision, 2].

    Returns:
        The policy with more bits, [decision, 2].
    """
    bits, upgrades = bits.copy(), choice.upgrades
    slack = (choice.capacity - choice.total(bits)).tolist()
    best = [_first_that_fits(upgrades(decision, pair), slack) for decision, pair in enumerate(_flat(bits))]
    while any(best):
        decision = min((each.price, number) for number, each in enumerate(best) if each)[1]
        step = best[decision]
        assert step is not None
        if _fits(step, slack):
            bits[decision] = np.add(divmod(step.pair, MAX_BITS), 1)
            slack = [left - added for left, added in zip(slack, step.added, strict=True)]
            if min(step.added) < 0:  # some limit has more slack than before: other upgrades may fit now
                best = [_first_that_fits(upgrades(other, pair), slack) for other, pair in enumerate(_flat(bits))]
        best[decision] = _first_that_fits(upgrades(decision, _flat(bits[None, decision])[0]), slack)
    return bits


def _flat(bits: IntArray) -> list[int]:
    """Number the pairs of bits [decision, 2] in the way of `Upgrade.pair`."""
    flat: list[int] = ((bits[:, 0] - 1) * MAX_BITS + bits[:, 1] - 1).tolist()
    return flat


def _first_that_fits(upgrades: Sequence[Upgrade], slack: list[float]) -> Upgrade | None:
    return next((each for each in upgrades if _fits(each, slack)), None)


def _fits(upgrade: Upgrade, slack: list[float]) -> bool:
    return all(map(le, upgrade.added, slack))


def project(choice: Choices, bits: IntArray) -> IntArray:
    """Project a policy onto the legal ones.

    Snap to allowed pairs, lower bits where that saves most, then spend what is left.

    Idempotent.

    Args:
        choice: Allowed bits and their costs.
        bits: Any policy, [decision, 2].

    Returns:
        A policy within every budget, [decision, 2].

    Raises:
        BudgetError: No policy fits.
    """
    bits = snap(choice, bits)
    while not choice.fits(bits):
        saved, fewer = _relief(choice, bits), _bits_fewer(bits)
        price = np.where(choice.allowed & (fewer > 0) & (saved > 0), saved / np.maximum(fewer, 1), 0.0)
        if not price.max() > 0:
            return spend_remaining(choice, choice.reserve)
        decision, w, a = np.unravel_index(int(price.argmax()), price.shape)
        bits[decision] = (w + 1, a + 1)
    return spend_remaining(choice, bits)


def snap(choice: Choices, bits: IntArray) -> IntArray:
    """Replace every decision's bits by the nearest allowed pair; of equally near ones the one with fewer bits.

    Args:
        choice: Allowed bits and their costs.
        bits: Any policy, [decision, 2].

    Returns:
        A policy of allowed pairs, which may exceed the budget, [decision, 2].
    """
    distance = np.abs(bits[:, 0, None, None] - WIDTHS[:, None]) + np.abs(bits[:, 1, None, None] - WIDTHS)
    nearest = np.where(choice.allowed, distance, np.inf).reshape(len(bits), -1).argmin(axis=1)
    return np.stack(np.divmod(nearest, MAX_BITS), axis=1).astype(np.int64) + 1


def lower_in_sequence(choice: Choices, bits: IntArray) -> IntArray:
    """Lower bits by the rule of the HAQ paper: one at a time, last layer first, activations before weights.

    Stops as soon as the budget is met. Where fewer bits can cost more, a policy may still exceed the budget when no
    layer can be lowered any further.

    Args:
        choice: Allowed bits and their costs.
        bits: A policy, [decision, 2].

    Returns:
        The lowered policy, [decision, 2].
    """
    bits = bits.copy()
    while not choice.fits(bits):
        before = bits.copy()
        for decision in reversed(range(len(bits))):
            for column in (1, 0):
                lower = bits[decision] - np.eye(2, dtype=np.int64)[column]
                if lower.min() >= 1 and choice.allowed[decision, lower[0] - 1, lower[1] - 1]:
                    bits[decision] = lower
                if choice.fits(bits):
                    return bits
        if (bits == before).all():
            break
    return bits


def _current(choice: Choices, bits: IntArray) -> FloatArray:
    """Current cost of each decision, [constraint, decision]."""
    return np.asarray(choice.cost[:, np.arange(len(bits)), bits[:, 0] - 1, bits[:, 1] - 1])


def _relief(choice: Choices, bits: IntArray) -> FloatArray:
    """Reduction of the exceeded limits by every other pair, relative to those limits, [decision, w_bits, a_bits]."""
    current = _current(choice, bits)
    exceeded = current.sum(axis=1) > choice.limits
    saved = (current[:, :, None, None] - choice.cost)[exceeded] / choice.limits[exceeded, None, None, None]
    return np.asarray(saved.sum(axis=0))


def _bits_more(bits: IntArray) -> IntArray:
    """Additional bits of every pair, [decision, w_bits, a_bits]; 0 for a pair with fewer bits in either column."""
    w = WIDTHS[None, :, None] - bits[:, 0, None, None]
    a = WIDTHS[None, None, :] - bits[:, 1, None, None]
    return np.where((w >= 0) & (a >= 0), w + a, 0)


def _bits_fewer(bits: IntArray) -> IntArray:
    """Bits saved by every pair; 0 for a pair with more bits in either column."""
    return _bits_more(MAX_BITS + 1 - bits)[:, ::-1, ::-1]

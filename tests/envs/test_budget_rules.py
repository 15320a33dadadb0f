"""Budget rules."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.budget_rules import lower_in_sequence, project, spend_remaining
from envs.choices import BudgetError, Choices

PAIRS = np.multiply.outer(np.arange(1, 9.0), np.arange(1, 9.0))


def choice_of(cost: np.ndarray, limits: list[float], *, low: int = 2, high: int = 8) -> Choices:
    """`cost` [constraint, decision, 8, 8]; every pair from low to high is allowed."""
    allowed = np.zeros(cost.shape[1:], dtype=bool)
    allowed[:, low - 1 : high, low - 1 : high] = True
    count = cost.shape[1]
    names = tuple(f"l{number}" for number in range(count))
    return Choices(names, tuple(range(count)), allowed, cost, np.array(limits), ("latency", "RAM")[: len(limits)])


def product_cost(*factors: float) -> np.ndarray:
    return np.stack([factor * PAIRS for factor in factors])[None]


def test_lower_in_sequence_by_hand() -> None:
    choice = choice_of(product_cost(1, 1, 1), [37])
    start = np.full((3, 2), 4)
    # 48 -> 44 (last a) -> 41 (last w) -> 37 (middle a): fits.
    assert lower_in_sequence(choice, start).tolist() == [[4, 4], [4, 3], [3, 3]]
    assert start.tolist() == [[4, 4]] * 3


def test_lower_in_sequence_repeats_and_keeps_minimum_bits() -> None:
    choice = choice_of(product_cost(1, 1), [11])
    # From 16 + 4 with the last layer at 2 x 2: 12 + 4, 9 + 4, then a second round: 6 + 4.
    assert lower_in_sequence(choice, np.array([[4, 4], [2, 2]])).tolist() == [[3, 2], [2, 2]]


def test_lower_in_sequence_keeps_policy_within_budget() -> None:
    choice = choice_of(product_cost(1, 1), [1000])
    assert lower_in_sequence(choice, np.array([[3, 5], [2, 2]])).tolist() == [[3, 5], [2, 2]]


def test_lower_in_sequence_with_fixed_activations_below_minimum_weight_bits() -> None:
    choice = choice_of(product_cost(1, 1), [20])
    choice.allowed[:] = False
    choice.allowed[:, 3:, 1] = True
    assert lower_in_sequence(choice, np.array([[8, 2], [8, 2]])).tolist() == [[5, 2], [5, 2]]


def test_lower_in_sequence_ends_over_budget_if_fewer_bits_cost_more() -> None:
    choice = choice_of(100 - product_cost(1), [50])
    assert lower_in_sequence(choice, np.array([[4, 4]])).tolist() == [[2, 2]]
    assert not choice.fits(np.array([[2, 2]]))


def test_spend_remaining_adds_cheapest_bits() -> None:
    choice = choice_of(product_cost(1, 10), [58])
    # From 4 + 40 there are 14 left, and a bit of the second layer costs 20: all goes to the first. Its activation bits
    # cost 2 each, and each makes a weight bit more expensive. At 2 x 8, 2 are left.
    assert spend_remaining(choice, np.array([[2, 2], [2, 2]])).tolist() == [[2, 8], [2, 2]]


def test_spend_remaining_takes_free_bits() -> None:
    free_weights = np.broadcast_to(np.arange(1, 9.0), (1, 1, 8, 8)).copy()
    choice = choice_of(free_weights, [3.0])
    assert spend_remaining(choice, np.array([[2, 3]])).tolist() == [[8, 3]]


def test_spend_remaining_respects_second_limit() -> None:
    cost = np.stack([product_cost(1)[0], np.broadcast_to(np.arange(1, 9.0)[:, None], (1, 8, 8))])
    assert spend_remaining(choice_of(cost, [1000, 4.5]), np.array([[2, 2]])).tolist() == [[4, 8]]


def test_spend_remaining_can_reach_the_budget_exactly() -> None:
    # Sums of tenths differ by rounding with their order, which must not prevent the last bit.
    cost = product_cost(0.1, 0.2, 0.3, 0.7, 1.1)
    limit = float(sum(cost[0, decision, 7, 7] for decision in (4, 2, 0, 1, 3)))
    choice = choice_of(cost, [limit])
    assert spend_remaining(choice, np.full((5, 2), 2)).tolist() == [[8, 8]] * 5
    assert choice.fits(np.full((5, 2), 8))


def test_project_lowers_bits_of_largest_saving() -> None:
    choice = choice_of(product_cost(1, 100), [100 * 14 + 64])
    # Only the expensive layer is lowered, to 7 x 2 = 14; the cheap one keeps its 8 x 8.
    projected = project(choice, np.full((2, 2), 8))
    assert projected[0].tolist() == [8, 8]
    assert choice.fits(projected)
    assert projected[1].prod() <= 14


def test_project_raises_if_nothing_fits() -> None:
    with pytest.raises(BudgetError, match=r"budget of 7: the cheapest allowed bits cost 8"):
        project(choice_of(product_cost(1, 1), [7]), np.full((2, 2), 8))


def ladder(choice: Choices, bits: np.ndarray) -> list[np.ndarray]:
    """All policies that differ in one decision, with no fewer bits in it."""
    steps = []
    for decision in range(len(bits)):
        for w, a in np.argwhere(choice.allowed[decision]) + 1:
            if w >= bits[decision, 0] and a >= bits[decision, 1] and (w, a) != tuple(bits[decision]):
                step = bits.copy()
                step[decision] = w, a
                steps.append(step)
    return steps


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 2), st.booleans(), st.floats(0.05, 1))
@settings(max_examples=150, deadline=None)
def test_project_is_legal_maximal_and_idempotent(
    seed: int, count: int, limits: int, is_monotone: bool, ratio: float
) -> None:
    rng = np.random.default_rng(seed)
    cost = rng.integers(0, 20, (limits, count, 8, 8)).astype(float)
    if is_monotone:
        cost = cost.cumsum(axis=2).cumsum(axis=3)
    choice = choice_of(cost, [max(1.0, ratio * part.max(axis=(1, 2)).sum()) for part in cost])
    wild = rng.integers(0, 12, (count, 2))
    try:
        bits = project(choice, wild)
    except BudgetError:
        with pytest.raises(BudgetError):
            _ = choice.reserve
        return
    assert choice.fits(bits)
    assert all(choice.allowed[decision, w - 1, a - 1] for decision, (w, a) in enumerate(bits))
    assert not any(choice.fits(step) for step in ladder(choice, bits))
    np.testing.assert_array_equal(project(choice, bits), bits)


def test_lower_in_sequence_skips_widths_that_are_not_allowed() -> None:
    choice = choice_of(product_cost(1, 1), [16 + 32])
    choice.allowed[:] = False
    choice.allowed[:, [[1], [3], [7]], 7] = True  # weights of 2, 4 or 8 bits, activations of 8
    assert lower_in_sequence(choice, np.array([[8, 8], [8, 8]])).tolist() == [[4, 8], [2, 8]]


def test_project_takes_the_pair_that_saves_most_per_bit() -> None:
    cost = np.full((1, 1, 8, 8), 100.0)
    # From 8 x 8 bits: 52 with 4 bits less is 13 a bit, 60 with 2 bits less is 30, 80 with 8 bits less is 10.
    cost[0, 0, 3, 7], cost[0, 0, 6, 6], cost[0, 0, 3, 3] = 48.0, 40.0, 20.0
    assert project(choice_of(cost, [50.0]), np.array([[8, 8]])).tolist() == [[7, 7]]


def test_project_saves_only_of_exceeded_budgets() -> None:
    cost = np.full((2, 1, 8, 8), 10.0)
    cost[:, 0, 7, 7] = 60.0, 10.0
    # One bit less saves 15 of the first budget, which is exceeded; the other saves 12 of it and all of the second.
    cost[:, 0, 6, 7], cost[:, 0, 7, 6] = (45.0, 10.0), (48.0, 0.0)
    choice = choice_of(cost, [50.0, 20.0])
    choice.allowed[:] = False
    choice.allowed[0, [7, 6, 7], [7, 7, 6]] = True
    assert project(choice, np.array([[8, 8]])).tolist() == [[7, 8]]

"""The rules that bring a policy under its budget."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.budget import lower_in_sequence, project, snap, spend_remaining
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


def test_the_papers_sweep_by_hand() -> None:
    choice = choice_of(product_cost(1, 1, 1), [37])
    start = np.full((3, 2), 4)
    # 48 -> 44 (last a) -> 41 (last w) -> 37 (middle a): fits.
    assert lower_in_sequence(choice, start).tolist() == [[4, 4], [4, 3], [3, 3]]
    assert start.tolist() == [[4, 4]] * 3


def test_the_papers_sweep_goes_round_again_and_leaves_what_is_at_its_least() -> None:
    choice = choice_of(product_cost(1, 1), [11])
    # From 16 + 4: the last is at 2 x 2; 12 + 4, 9 + 4; then round again 6 + 4.
    assert lower_in_sequence(choice, np.array([[4, 4], [2, 2]])).tolist() == [[3, 2], [2, 2]]


def test_a_policy_within_the_budget_is_left_alone_by_the_papers_rule() -> None:
    choice = choice_of(product_cost(1, 1), [1000])
    assert lower_in_sequence(choice, np.array([[3, 5], [2, 2]])).tolist() == [[3, 5], [2, 2]]


def test_fixed_activations_below_the_least_weight_bits_do_not_stop_the_papers_rule() -> None:
    choice = choice_of(product_cost(1, 1), [20])
    choice.allowed[:] = False
    choice.allowed[:, 3:, 1] = True
    assert lower_in_sequence(choice, np.array([[8, 2], [8, 2]])).tolist() == [[5, 2], [5, 2]]


def test_where_fewer_bits_cost_more_the_papers_rule_gives_up_over_the_budget() -> None:
    choice = choice_of(100 - product_cost(1), [50])
    assert lower_in_sequence(choice, np.array([[4, 4]])).tolist() == [[2, 2]]
    assert not choice.fits(np.array([[2, 2]]))


def test_the_rest_is_spent_where_a_bit_is_cheapest() -> None:
    choice = choice_of(product_cost(1, 10), [58])
    # From 4 + 40 there are 14 left, and a bit of the second layer costs 20: all goes to the first. Its activation bits
    # cost 2 each, and each makes a weight bit dearer. At 2 x 8, 2 are left.
    assert spend_remaining(choice, np.array([[2, 2], [2, 2]])).tolist() == [[2, 8], [2, 2]]


def test_free_bits_are_taken_even_when_nothing_is_left() -> None:
    free_weights = np.broadcast_to(np.arange(1, 9.0), (1, 1, 8, 8)).copy()
    choice = choice_of(free_weights, [3.0])
    assert spend_remaining(choice, np.array([[2, 3]])).tolist() == [[8, 3]]


def test_a_step_that_a_second_limit_forbids_is_not_taken() -> None:
    cost = np.stack([product_cost(1)[0], np.broadcast_to(np.arange(1, 9.0)[:, None], (1, 8, 8))])
    assert spend_remaining(choice_of(cost, [1000, 4.5]), np.array([[2, 2]])).tolist() == [[4, 8]]


def test_the_whole_budget_can_be_spent() -> None:
    # Sums of tenths in another order differ in the last place; that is no reason to refuse the last bit.
    cost = product_cost(0.1, 0.2, 0.3, 0.7, 1.1)
    limit = float(sum(cost[0, decision, 7, 7] for decision in (4, 2, 0, 1, 3)))
    choice = choice_of(cost, [limit])
    assert spend_remaining(choice, np.full((5, 2), 2)).tolist() == [[8, 8]] * 5
    assert choice.fits(np.full((5, 2), 8))


def test_snap_takes_the_nearest_pair_that_is_allowed() -> None:
    choice = choice_of(product_cost(1, 1), [1000], low=3, high=6)
    choice.allowed[1] = False
    choice.allowed[1, 7, 7] = True
    assert snap(choice, np.array([[1, 8], [2, 2]])).tolist() == [[3, 6], [8, 8]]


def test_project_saves_where_a_bit_less_saves_most() -> None:
    choice = choice_of(product_cost(1, 100), [100 * 14 + 64])
    # The dear layer alone comes down, to 7 x 2 = 14; the cheap one keeps its 8 x 8.
    projected = project(choice, np.full((2, 2), 8))
    assert projected[0].tolist() == [8, 8]
    assert choice.fits(projected)
    assert projected[1].prod() <= 14


def test_project_says_so_when_nothing_fits() -> None:
    with pytest.raises(BudgetError, match=r"budget of 7: the cheapest allowed bits cost 8"):
        project(choice_of(product_cost(1, 1), [7]), np.full((2, 2), 8))


def ladder(choice: Choices, bits: np.ndarray) -> list[np.ndarray]:
    """Every policy that differs in one decision, there with no fewer bits."""
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
def test_project_is_legal_complete_and_idempotent_on_any_table(
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

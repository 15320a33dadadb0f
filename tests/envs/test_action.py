"""Conversion between actions and bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.action import actions_of_bits, bits_of_actions

ranges = st.tuples(st.integers(1, 8), st.integers(1, 8)).map(sorted)


@pytest.mark.parametrize(
    ("action", "bits"),
    [(0.0, 2), (0.142, 2), (0.144, 3), (0.285, 3), (0.287, 4), (0.5, 5), (0.714, 6), (0.715, 7), (0.858, 8), (1.0, 8)],
)
def test_2_to_8_bits_divide_actions_into_sevenths(action: float, bits: int) -> None:
    assert bits_of_actions(action, min_bits=2, max_bits=8) == bits


@pytest.mark.parametrize(("action", "bits"), [(0.0, 3), (0.33, 3), (0.34, 4), (0.66, 4), (0.67, 5), (1.0, 5)])
def test_3_to_5_bits_divide_actions_into_thirds(action: float, bits: int) -> None:
    assert bits_of_actions(action, min_bits=3, max_bits=5) == bits


@given(ranges, st.floats(0, 1))
def test_bits_of_actions_stay_in_range(limits: list[int], action: float) -> None:
    low, high = limits
    assert low <= bits_of_actions(action, min_bits=low, max_bits=high) <= high
    assert bits_of_actions(0.0, min_bits=low, max_bits=high) == low
    assert bits_of_actions(1.0, min_bits=low, max_bits=high) == high


@given(ranges, st.floats(0, 1), st.floats(0, 1))
def test_bits_of_actions_are_monotone(limits: list[int], one: float, other: float) -> None:
    low, high = limits
    lesser, greater = sorted((one, other))
    assert bits_of_actions(lesser, min_bits=low, max_bits=high) <= bits_of_actions(greater, min_bits=low, max_bits=high)


@given(ranges)
def test_actions_of_bits_round_trip_in_single_precision(limits: list[int]) -> None:
    low, high = limits
    for bits in range(low, high + 1):
        action = float(actions_of_bits(bits, min_bits=low, max_bits=high))
        assert 0 < action < 1
        assert bits_of_actions(action, min_bits=low, max_bits=high) == bits
        assert bits_of_actions(float(np.float32(action)), min_bits=low, max_bits=high) == bits


@given(ranges)
def test_every_width_has_an_equal_share_of_actions(limits: list[int]) -> None:
    low, high = limits
    parts = high - low + 1
    decoded = bits_of_actions((np.arange(10 * parts) + 0.5) / (10 * parts), min_bits=low, max_bits=high).tolist()
    assert [decoded.count(bits) for bits in range(low, high + 1)] == [10] * parts


@pytest.mark.parametrize("action", [-0.1, 1.1, np.nan])
def test_actions_outside_unit_interval_raise(action: float) -> None:
    with pytest.raises(ValueError, match=r"an action lies in \[0, 1\]"):
        bits_of_actions([0.5, action], min_bits=2, max_bits=8)


@given(ranges, st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_arrays_are_converted_by_element(limits: list[int], actions: list[float]) -> None:
    low, high = limits
    bits = bits_of_actions(actions, min_bits=low, max_bits=high)
    assert bits.tolist() == [bits_of_actions(action, min_bits=low, max_bits=high) for action in actions]
    middles = actions_of_bits(bits, min_bits=low, max_bits=high).tolist()
    assert middles == [actions_of_bits(width, min_bits=low, max_bits=high) for width in bits.tolist()]


def test_bits_outside_the_range_have_the_actions_of_its_ends() -> None:
    assert actions_of_bits([1, 8], min_bits=3, max_bits=6).tolist() == [0.0, 1.0]

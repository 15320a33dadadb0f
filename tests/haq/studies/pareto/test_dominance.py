"""Non-dominated points and hypervolumes by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haq.studies.pareto.dominance import hypervolume, non_dominated

numbers = st.integers(0, 8).map(float)
points = st.lists(st.tuples(numbers, numbers), max_size=12)


def test_dominated_points_are_left_out() -> None:
    assert non_dominated([(3.0, 0.9), (1.0, 0.5), (2.0, 0.5), (2.0, 0.8), (3.0, 0.9)]) == [1, 3, 0]
    assert non_dominated([]) == []


def test_hypervolume_of_two_steps() -> None:
    # 1 x 0.5 between 1 and 2, then 2 x 0.8 up to 4.
    assert hypervolume([(2.0, 0.8), (1.0, 0.5), (3.0, 0.7)], (4.0, 0.0)) == pytest.approx(0.5 + 1.6)


def test_points_worse_than_the_reference_add_nothing() -> None:
    assert hypervolume([(5.0, 1.0), (1.0, 0.1)], (4.0, 0.2)) == 0.0
    assert hypervolume([], (1.0, 0.0)) == 0.0


@given(points)
def test_front_is_every_point_that_no_other_dominates(drawn: list[tuple[float, float]]) -> None:
    def is_beaten(point: tuple[float, float]) -> bool:
        return any(cost <= point[0] and score >= point[1] and (cost, score) != point for cost, score in drawn)

    kept = {drawn[place] for place in non_dominated(drawn)}
    assert kept == {point for point in drawn if not is_beaten(point)}


@given(points)
def test_hypervolume_is_the_number_of_dominated_unit_squares(drawn: list[tuple[float, float]]) -> None:
    squares = {(x, y) for cost, score in drawn for x in range(int(cost), 8) for y in range(int(score))}
    assert hypervolume(drawn, (8.0, 0.0)) == len(squares)

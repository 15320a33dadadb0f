"""Shapes of files: numbers that are none are refused, whoever wrote them."""

from pathlib import Path

import pytest

from haq.errors import UserError
from haq.runs.records import Count, Finite, Record, checked, damage_named, holds


class Point(Record):
    x: Finite
    n: Count = 0


@pytest.mark.parametrize("x", [1, -0.5, 1e99])
def test_finite_numbers_are_accepted(x: float) -> None:
    assert holds(Point, {"x": x, "other": "kept out"})


@pytest.mark.parametrize("x", ["1", True, None, 1e308, float("inf"), float("nan"), 10**400])
def test_other_values_are_refused(x: object) -> None:
    assert not holds(Point, {"x": x})


@pytest.mark.parametrize(("document", "problem"), [({"x": 1, "n": -1}, "n: input should be"), ({}, "x: field req")])
def test_the_file_the_problem_and_the_remedy_are_named(document: object, problem: str) -> None:
    with pytest.raises(UserError, match=rf"^point\.json is damaged \({problem}.*\); delete it$"):
        checked(Point, document, Path("point.json"), remedy="delete it")


def test_errors_while_restoring_name_the_damaged_file() -> None:
    with (
        pytest.raises(UserError, match=r"^point\.pt is damaged; delete it$"),
        damage_named(Path("point.pt"), remedy="delete it"),
    ):
        raise KeyError("x")

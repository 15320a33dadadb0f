"""Hypervolumes of searches and of uniform bits, by hand."""

from typing import Any

import pytest

from haq.studies.pareto.fronts import fronts


def record(objective: str, budget_ratio: float, *, cost: float, accuracy: float, **more: Any) -> dict[str, Any]:
    """A search on a device where 8 bits everywhere cost 10 s, 100 J and 1000 B; `cost` is a part of each."""
    uniform = {"w_bits": 4, "a_bits": 4, "cost": costs(0.25), "accuracy": 0.6}
    return {
        "hardware": "chip",
        "objective": objective,
        "budget_ratio": budget_ratio,
        "seed": 0,
        "cost": costs(cost),
        "baseline_cost": costs(1.0),
        "accuracy": accuracy,
        "metric": "accuracy",
        "uniform": [uniform],
        **more,
    }


def costs(ratio: float) -> dict[str, float]:
    return {"latency_s": 10 * ratio, "energy_j": 100 * ratio, "weight_bytes": 1000 * ratio}


def area(records: list[dict[str, Any]], axis: str, *, is_uniform: bool) -> Any:
    (found,) = (each for each in fronts(records) if each["axis"] == axis and each["is_uniform"] == is_uniform)
    return found["hypervolume"]


def test_what_costs_less_than_the_tightest_budget_counts_as_if_it_cost_that() -> None:
    """Uniform bits at a quarter of the cost are not ahead for being cheaper than any search was asked to be."""
    records = [
        record("latency", 0.5, cost=0.5, accuracy=0.7),
        record("latency", 0.8, cost=0.75, accuracy=0.9),
    ]
    assert area(records, "latency", is_uniform=False) == pytest.approx(0.25 * 0.7 + 0.25 * 0.9)
    assert area(records, "latency", is_uniform=True) == pytest.approx(0.5 * 0.6)


def test_a_cost_that_was_not_searched_for_has_a_front_and_no_hypervolume() -> None:
    records = [record("latency", 0.5, cost=0.5, accuracy=0.7)]
    assert area(records, "size", is_uniform=False) is None
    (front,) = (each for each in fronts(records) if each["axis"] == "size" and not each["is_uniform"])
    assert front["points"] == [{"cost": 500.0, "accuracy": 0.7}]


def test_searches_for_another_cost_do_not_count() -> None:
    records = [
        record("latency", 0.5, cost=0.5, accuracy=0.7),
        record("size", 0.4, cost=0.4, accuracy=0.95, uniform=[]),
    ]
    assert area(records, "latency", is_uniform=False) == pytest.approx(0.5 * 0.7)
    assert area(records, "size", is_uniform=False) == pytest.approx(0.6 * 0.95)


def test_scores_that_are_no_accuracies_have_no_hypervolume() -> None:
    assert area([record("latency", 0.5, cost=0.5, accuracy=-3.0, metric="score")], "latency", is_uniform=True) is None

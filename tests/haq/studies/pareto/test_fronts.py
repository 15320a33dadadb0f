"""Hypervolumes of searches and of uniform bits, by hand."""

from typing import Any

import pytest

from haq.studies.pareto.fronts import fronts
from haq.studies.pareto.records import SweepRecord
from hardware_sim.cost import Objective


def record(objective: Objective, budget_ratio: float, *, cost: float, accuracy: float, **more: Any) -> SweepRecord:
    """Return a search on a device where 8 bits everywhere cost 10 s, 100 J and 1000 B; `cost` is a fraction of each."""
    uniform = {"w_bits": 4, "a_bits": 4, "cost": costs(0.25), "cost_ratio": 0.25, "accuracy": 0.6}
    facts = {
        "hardware": "chip",
        "objective": objective,
        "budget": str(budget_ratio),
        "budget_ratio": budget_ratio,
        "seed": 0,
        "episodes": 1,
        "new_evaluations": 1,
        "cost": costs(cost),
        "baseline_cost": costs(1.0),
        "cost_ratio": cost,
        "accuracy": accuracy,
        "accuracy_fp32": 1.0,
        "search_accuracy": accuracy,
        "report_images": 10,
        "metric": "accuracy",
        "uniform": [uniform],
        "w_bits": [4],
        "a_bits": [4],
        "run": "run",
    }
    return SweepRecord.model_validate(facts | more)


def costs(ratio: float) -> dict[str, float]:
    return {"latency_s": 10 * ratio, "energy_j": 100 * ratio, "weight_bytes": 1000 * ratio, "bops": 1.0}


def area(records: list[SweepRecord], axis: Objective, *, is_uniform: bool) -> float | None:
    (found,) = (each for each in fronts(records) if each.axis == axis and each.is_uniform == is_uniform)
    return found.hypervolume


def test_costs_below_the_tightest_budget_are_raised_to_it() -> None:
    """Uniform bits at a quarter of the cost are not ahead for being cheaper than any search was asked to be."""
    records = [
        record("latency", 0.5, cost=0.5, accuracy=0.7),
        record("latency", 0.8, cost=0.75, accuracy=0.9),
    ]
    assert area(records, "latency", is_uniform=False) == pytest.approx(0.25 * 0.7 + 0.25 * 0.9)
    assert area(records, "latency", is_uniform=True) == pytest.approx(0.5 * 0.6)


def test_costs_that_no_search_limits_have_a_front_and_no_hypervolume() -> None:
    records = [record("latency", 0.5, cost=0.5, accuracy=0.7)]
    assert area(records, "size", is_uniform=False) is None
    (front,) = (each for each in fronts(records) if each.axis == "size" and not each.is_uniform)
    assert [(point.cost, point.accuracy) for point in front.points] == [(500.0, 0.7)]


def test_searches_for_other_costs_do_not_count() -> None:
    records = [
        record("latency", 0.5, cost=0.5, accuracy=0.7),
        record("size", 0.4, cost=0.4, accuracy=0.95, uniform=[]),
    ]
    assert area(records, "latency", is_uniform=False) == pytest.approx(0.5 * 0.7)
    assert area(records, "size", is_uniform=False) == pytest.approx(0.6 * 0.95)


def test_scores_other_than_accuracy_have_no_hypervolume() -> None:
    assert area([record("latency", 0.5, cost=0.5, accuracy=-3.0, metric="score")], "latency", is_uniform=True) is None

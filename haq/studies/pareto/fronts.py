"""Fronts of a sweep: what its searches found, and what uniform bits reach, for every device and cost."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from haq.studies.pareto.hypervolume import Point, front, hypervolume
from haq.tasks.metrics import metric_named
from hardware_sim.cost import Objective

DOCUMENT = "pareto.json"
AXES: Mapping[Objective, str] = {"latency": "latency_s", "energy": "energy_j", "size": "weight_bytes"}
"""What accuracy is held against, and its key in a cost."""

Json = Mapping[str, Any]


def fronts(records: Sequence[Json]) -> list[dict[str, Any]]:
    """One for each device, cost that the device models, and seed; and one for the uniform policies of each of the two.

    The front of a cost that was searched for is that of the searches for it, of another cost that of all searches. The
    policies were chosen on other images than those of the score; which of them are on the front follows from it.

    A hypervolume is the area, in parts of the cost of 8 bits everywhere times the score, between a front and the
    reference: that cost, and a score of 0. Searches and uniform bits are compared within the same budgets: what costs
    less than the tightest of them, `tightest`, which no search was asked for, counts as if it cost that. None for a
    cost that was not searched for, and for scores that are not accuracies, which have no natural worst.
    """
    return [
        _front(records, hardware, axis, seed)
        for hardware in _values(records, "hardware")
        for axis in AXES
        if _baseline(records, hardware, axis)
        for seed in (*_values(records, "seed"), None)
    ]


def uniform_points(records: Iterable[Json], hardware: str, axis: Objective) -> dict[str, Point]:
    """The uniform policies of a device, named by their bits: what they cost and score."""
    points: dict[str, Point] = {}
    for record in _of(records, hardware):
        for each in record["uniform"]:
            points[f"{each['w_bits']}/{each['a_bits']}"] = (each["cost"][AXES[axis]], each["accuracy"])
    return points


def found_points(records: Iterable[Json], hardware: str, axis: Objective, seed: int) -> list[Point]:
    """What the searches of a device and seed found, whatever their objective."""
    return [
        (record["cost"][AXES[axis]], record["accuracy"]) for record in _of(records, hardware) if record["seed"] == seed
    ]


def _front(records: Sequence[Json], hardware: str, axis: Objective, seed: int | None) -> dict[str, Any]:
    """Of one seed; of uniform bits where there is none."""
    searches = [record for record in _of(records, hardware) if record["objective"] == axis]
    shown = searches or list(_of(records, hardware))
    points = (
        list(uniform_points(shown, hardware, axis).values())
        if seed is None
        else found_points(shown, hardware, axis, seed)
    )
    kept = [points[place] for place in front(points)]
    tightest = min((record["budget_ratio"] for record in searches), default=None)
    area = None
    if tightest is not None and metric_named(records[0]["metric"]).is_percent:
        base = _baseline(records, hardware, axis)
        area = hypervolume([(max(cost / base, tightest), score) for cost, score in kept], (1.0, 0.0))
    return {
        "hardware": hardware,
        "axis": axis,
        "seed": seed,
        "is_uniform": seed is None,
        "points": [{"cost": cost, "accuracy": score} for cost, score in kept],
        "candidates": len(set(points)),
        "tightest": tightest,
        "hypervolume": area,
    }


def _baseline(records: Iterable[Json], hardware: str, axis: Objective) -> float:
    """What 8 bits everywhere cost; 0 where the device does not model that."""
    return next(_of(records, hardware))["baseline_cost"][AXES[axis]] or 0.0


def _of(records: Iterable[Json], hardware: str) -> Iterator[Json]:
    return (record for record in records if record["hardware"] == hardware)


def _values(records: Iterable[Json], key: str) -> list[Any]:
    return list(dict.fromkeys(record[key] for record in records))

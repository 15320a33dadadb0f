"""Pareto fronts of a sweep: of its searches and of uniform bits, for every device and cost."""

from collections.abc import Iterable, Iterator, Sequence

from haq.studies.pareto.dominance import Point, hypervolume, non_dominated
from haq.studies.pareto.records import Front, FrontPoint, SweepRecord
from haq.tasks.metrics import metric_named
from hardware_sim.cost import Objective

AXES: tuple[Objective, ...] = ("latency", "energy", "size")
"""Costs against which scores are compared."""


def fronts(records: Sequence[SweepRecord]) -> list[Front]:
    """Return the fronts of every device, cost that it models, and seed, and those of uniform bits.

    If some searches limit a cost, its front is that of these searches, otherwise that of all. The policies were chosen
    on other images than those of the scores; which of them are on the front follows from the scores.

    The hypervolume is the area between a front and the reference (cost of 8 bits everywhere, score 0), in units of that
    cost times the score. Searches and uniform bits are compared within the same budgets: whatever costs less than the
    smallest of them, `tightest`, counts as if it cost that, as no search was asked for less. It is None for a cost that
    no search limits, and for scores that are not accuracies, which have no natural worst value.

    Args:
        records: Results of all searches.

    Returns:
        Fronts by device, cost and seed; those of uniform bits have seed None.
    """
    return [
        _front(records, hardware, axis, seed)
        for hardware in dict.fromkeys(record.hardware for record in records)
        for axis in AXES
        if _baseline(records, hardware, axis)
        for seed in (*dict.fromkeys(record.seed for record in records), None)
    ]


def uniform_points(records: Iterable[SweepRecord], hardware: str, axis: Objective) -> dict[str, Point]:
    """Return cost and score of uniform bits on a device.

    Args:
        records: Results of all searches.
        hardware: Title of the device.
        axis: Which cost.

    Returns:
        (cost, score) by name, such as `4/8` for 4-bit weights and 8-bit activations.
    """
    return {
        f"{each.w_bits}/{each.a_bits}": (_known(each.cost.value(axis)), each.accuracy)
        for record in _of(records, hardware)
        for each in record.uniform
    }


def found_points(records: Iterable[SweepRecord], hardware: str, axis: Objective, seed: int) -> list[Point]:
    """Return cost and score of the policies that the searches of a seed found on a device, whatever their objective.

    Args:
        records: Results of all searches.
        hardware: Title of the device.
        axis: Which cost.
        seed: Seed of the searches.

    Returns:
        (cost, score) of each search.
    """
    return [
        (_known(record.cost.value(axis)), record.accuracy) for record in _of(records, hardware) if record.seed == seed
    ]


def _front(records: Sequence[SweepRecord], hardware: str, axis: Objective, seed: int | None) -> Front:
    """Return the front of one seed, or of uniform bits if the seed is None."""
    searches = [record for record in _of(records, hardware) if record.objective == axis]
    shown = searches or list(_of(records, hardware))
    points = (
        list(uniform_points(shown, hardware, axis).values())
        if seed is None
        else found_points(shown, hardware, axis, seed)
    )
    kept = [points[place] for place in non_dominated(points)]
    tightest = min((record.budget_ratio for record in searches), default=None)
    area = None
    if tightest is not None and metric_named(records[0].metric).is_percent:
        baseline = _baseline(records, hardware, axis)
        area = hypervolume([(max(cost / baseline, tightest), score) for cost, score in kept], (1.0, 0.0))
    return Front(
        hardware=hardware,
        axis=axis,
        seed=seed,
        is_uniform=seed is None,
        points=tuple(FrontPoint(cost=cost, accuracy=score) for cost, score in kept),
        candidates=len(set(points)),
        tightest=tightest,
        hypervolume=area,
    )


def _baseline(records: Iterable[SweepRecord], hardware: str, axis: Objective) -> float:
    """Return the cost of 8 bits everywhere; 0 if the device does not model it."""
    return next(_of(records, hardware)).baseline_cost.value(axis) or 0.0


def _known(cost: float | None) -> float:
    assert cost is not None, "the device models this cost"
    return cost


def _of(records: Iterable[SweepRecord], hardware: str) -> Iterator[SweepRecord]:
    return (record for record in records if record.hardware == hardware)

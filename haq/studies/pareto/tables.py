"""Tables of a sweep: results and evaluations of the searches, and hypervolumes of the fronts."""

from collections.abc import Iterator, Sequence
from io import StringIO

import pandas as pd

from haq.formatting import format_cost, percent
from haq.studies.pareto.fronts import AXES
from haq.studies.pareto.records import SweepDocument, SweepRecord
from haq.tables import Block, Table
from haq.tasks.metrics import metric_named


def as_csv(document: SweepDocument) -> str:
    """Return one row per search: its numbers and texts, and the costs of its policy.

    Args:
        document: The sweep.

    Returns:
        CSV with a header.
    """
    rows = [
        {key: value for key, value in record.to_json().items() if not isinstance(value, dict | list)}
        | record.cost.model_dump()
        for record in document.records
    ]
    buffer = StringIO()
    pd.DataFrame(rows).to_csv(buffer, index=False)
    return buffer.getvalue()


def report(document: SweepDocument) -> Iterator[Block]:
    """Yield the report: a table of searches, their evaluations, a table of hypervolumes, and budgets that were refused.

    Args:
        document: The sweep.

    Yields:
        Paragraphs and tables.
    """
    records = document.records
    config, first = document.config, records[0]
    metric = metric_named(first.metric)
    score = metric.text(first.accuracy_fp32)
    yield (
        f"`{config['model']}`, {first.metric} on {first.report_images} report {metric.items} (float {score}). "
        "Searches of one seed in their order; each was told what those before it found."
    )
    yield _searches(records)
    yield _evaluations(document)
    yield from _fronts(document)
    for each in document.refused:
        yield f"Not searched: {each.hardware}, {each.objective} at {each.budget}: {each.reason}."


def _searches(records: Sequence[SweepRecord]) -> Table:
    """Return a table with one row per search, without the columns seed and objective if all searches have the same."""
    metric = metric_named(records[0].metric)
    names = ("seed", "device", "objective", "budget")
    numbers = ("latency", "energy", "size", "of\n8 bits", metric.name, "new\npolicies")
    rows = tuple(
        (
            str(record.seed),
            record.hardware,
            record.objective,
            record.budget,
            *(format_cost(axis, record.cost.value(axis)) for axis in AXES),
            percent(record.cost_ratio),
            metric.text(record.accuracy),
            str(record.new_evaluations),
        )
        for record in records
    )
    same = {names.index(key) for key in ("seed", "objective") if len({getattr(record, key) for record in records}) == 1}
    table = Table((*names, *numbers), rows, text_columns=len(names) - len(same))
    return table.select_columns([place for place in range(len(table.columns)) if place not in same])


def _evaluations(document: SweepDocument) -> str:
    """State how many policies the searches of a seed evaluated, also relative to its first search."""
    frame = pd.DataFrame([record.to_json() for record in document.records])
    sums = frame.groupby("seed", sort=False)["new_evaluations"].agg(["sum", "first", "count"])
    ratio = float((sums["sum"] / sums["first"]).mean())
    each = f"{sums['sum'].mean():.0f} new evaluations for {sums['count'].iloc[0]} searches"
    return f"A seed took {each}: {ratio:.2f} times its first search."


def _fronts(document: SweepDocument) -> Iterator[Block]:
    """Yield the hypervolumes of searches, as means over seeds, and of uniform bits."""
    frame = pd.DataFrame([front.to_json() for front in document.fronts])
    frame = frame[frame["hypervolume"].notna()]
    if frame.empty:
        yield "No hypervolumes: they need accuracies, and latency, energy or size as an objective."
        return
    yield (
        "Hypervolume: the area between the front of the searches for a cost and (cost of 8 bits everywhere, "
        f"{document.records[0].metric} 0), in parts of that cost, from the tightest budget on; mean ± standard "
        "deviation over seeds, and from how many different points. A row compares searches and uniform bits within "
        "the same budgets; rows whose budgets differ do not compare."
    )
    rows = []
    for hardware in document.devices:
        for axis in AXES:
            here = frame[(frame["hardware"] == hardware) & (frame["axis"] == axis)]
            if len(here):
                areas = (_area(here[here["is_uniform"] == each]) for each in (False, True))
                rows.append((hardware, axis, percent(here["tightest"].iloc[0]), *areas))
    yield Table(("device", "cost", "from", "searches", "uniform bits"), tuple(rows), text_columns=2)


def _area(fronts: pd.DataFrame) -> str:
    """Format the mean hypervolume of some fronts and their number of candidates."""
    areas, points = fronts["hypervolume"], fronts["candidates"].mean()
    spread = f" ± {areas.std():.4f}" if len(areas) > 1 else ""
    return f"{areas.mean():.4f}{spread} ({points:.3g})"

"""The tables of a sweep: what each search found and took, and how large the fronts are."""

from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from typing import Any

import pandas as pd

from haq.pretty import percent, pretty_cost, pretty_score
from haq.sweeping.fronts import AXES

Json = Mapping[str, Any]
_COSTS = ("latency_s", "energy_j", "weight_bytes", "bops")


def as_csv(document: Json) -> str:
    """One row a search."""
    rows = [
        {key: value for key, value in record.items() if not isinstance(value, dict | list)}
        | {key: record["cost"][key] for key in _COSTS}
        for record in document["records"]
    ]
    buffer = StringIO()
    pd.DataFrame(rows).to_csv(buffer, index=False)
    return buffer.getvalue()


def as_markdown(document: Json) -> Iterator[str]:
    """Searches, the evaluations that they took, fronts, and the budgets that could not be met."""
    records = document["records"]
    config, first = document["config"], records[0]
    score = pretty_score(first["accuracy_fp32"], first["metric"])
    yield f"`{config['model']}`, {first['metric']} on {first['report_images']} report images (float {score})."
    yield "Searches of one seed in their order; each was told what those before it found."
    yield ""
    yield from _searches(records)
    yield ""
    yield _evaluations(document)
    yield ""
    yield from _fronts(document)
    for each in document["refused"]:
        yield ""
        yield f"Not searched: {each['hardware']}, {each['objective']} at {each['budget']}: {each['reason']}."


def _searches(records: Sequence[Json]) -> Iterator[str]:
    metric = records[0]["metric"]
    columns = ["seed", "device", "objective", "budget", "latency", "energy", "size", "of 8 bits", metric]
    yield _row([*columns, "new evaluations"])
    yield _row(["---"] * (len(columns) + 1))
    for record in records:
        cost = record["cost"]
        yield _row(
            [
                str(record["seed"]),
                record["hardware"],
                record["objective"],
                record["budget"],
                pretty_cost("latency", cost["latency_s"]),
                pretty_cost("energy", cost["energy_j"]),
                pretty_cost("size", cost["weight_bytes"]),
                percent(record["cost_ratio"]),
                pretty_score(record["accuracy"], metric),
                str(record["new_evaluations"]),
            ]
        )


def _evaluations(document: Json) -> str:
    """How many policies a seed took, against those of its first search."""
    frame = pd.DataFrame(document["records"])
    sums = frame.groupby("seed", sort=False)["new_evaluations"].agg(["sum", "first", "count"])
    ratio = float((sums["sum"] / sums["first"]).mean())
    each = f"{sums['sum'].mean():.0f} new evaluations for {sums['count'].iloc[0]} searches"
    return f"A seed took {each}: {ratio:.2f} times its first search."


def _fronts(document: Json) -> Iterator[str]:
    """Hypervolumes: mean over seeds beside uniform bits."""
    frame = pd.DataFrame(document["fronts"])
    if frame["hypervolume"].isna().all():
        yield "No hypervolumes: this score has no natural worst to measure from."
        return
    yield "Hypervolume: the area between the front and (cost of 8 bits everywhere, accuracy 0), in parts of that cost;"
    yield "mean ± standard deviation over seeds, and from how many different points."
    yield ""
    yield _row(["device", "cost", "searches", "uniform bits"])
    yield _row(["---"] * 4)
    for hardware in document["devices"]:
        for axis in AXES:
            here = frame[(frame["hardware"] == hardware) & (frame["axis"] == axis)]
            if len(here):
                yield _row([hardware, axis, *(_area(here[here["is_uniform"] == each]) for each in (False, True))])


def _area(fronts: pd.DataFrame) -> str:
    """Of one seed's front, or several."""
    areas, points = fronts["hypervolume"], fronts["candidates"].mean()
    spread = f" ± {areas.std():.4f}" if len(areas) > 1 else ""
    return f"{areas.mean():.4f}{spread} ({points:.3g})"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

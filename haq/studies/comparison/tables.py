"""Tables of a comparison: accuracies, and differences between the first method and each of the others.

Accuracies on a few hundred images often cannot separate good policies. How far the outputs are from the float network's
on the same images is more sensitive, so that these distances are compared as well.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from io import StringIO
from math import exp
from typing import Literal, get_args

import numpy as np
import pandas as pd

from haq.studies.comparison.intervals import MARGIN, Interval, paired_interval
from haq.studies.comparison.records import ComparisonDocument
from haq.tables import Block, Table
from haq.tasks.metrics import ACCURACY, Metric, metric_named

LEAST_DISTANCE = 1e-9
"""Smaller distances are raised to this, as they are float rounding."""
_SCOPE = {
    False: "This holds for chance in the search, on these images.",
    True: "Every seed draws its own images, of the report as well unless that takes all there are.",
}
"""What intervals cover, by whether images were redrawn."""
Distance = Literal["noise", "divergence"]
"""Distance of a policy's outputs from the float network's: relative output error, or KL divergence."""
RivalInterval = tuple[str, str, int, Interval]
"""Budget, rival, number of evaluations, and an interval."""


def as_frame(document: ComparisonDocument) -> pd.DataFrame:
    """Return the points of a comparison as a table.

    Args:
        document: The comparison.

    Returns:
        One row per point, with its fields as columns; accuracy is NaN if no policy was found.
    """
    return pd.DataFrame([point.to_json() for point in document.records]).astype({"accuracy": float})


def as_csv(document: ComparisonDocument) -> str:
    """Return the rows of `as_frame` as text.

    Args:
        document: The comparison.

    Returns:
        CSV with a header.
    """
    buffer = StringIO()
    as_frame(document).to_csv(buffer, index=False)
    return buffer.getvalue()


def report(document: ComparisonDocument) -> Iterator[Block]:
    """Yield the report: accuracies of all methods, and intervals of paired differences from the first method.

    Args:
        document: The comparison.

    Yields:
        Paragraphs and tables; with one method or one seed only those of accuracies.
    """
    frame = as_frame(document)
    count = int(frame["report_images"].iloc[0])
    ours, *rivals = document.agents
    metric = metric_named(document.records[0].metric)
    fp32 = metric.plotted(frame["accuracy_fp32"].mean())
    name = f"{metric.name}{' in percent' if metric.is_percent else ''}"
    yield (
        f"Report {name} on {count} {metric.items} (float {fp32:.2f}), mean ± standard deviation over "
        f"{document.seeds} seeds, of the policy that a method would have answered after so many evaluations. "
        "Forward images are those of all policies, prior and choice of the winner. CPU-seconds are as run, where "
        "policies that the store knew took next to none."
    )
    yield _accuracies(frame, document)
    if not rivals or document.seeds < 2:
        return
    yield (
        f"`{ours}` minus each other method in {_unit(metric)}, paired by seed, with 95 % intervals (Student's, by "
        f"Bonferroni for {len(rivals)} methods). Ahead: the interval excludes 0. Not behind: it excludes a loss of "
        f"{f'{100 * MARGIN:g} points' if metric.is_percent else f'{MARGIN:g}'}. Open: neither can be said. "
        f"{_SCOPE[document.redraw]}"
    )
    yield _differences(frame, document)
    yield (
        "How far outputs are from the float network's on the report images, by the output error that the default "
        f"reward counts and by KL divergence: another method's over that of `{ours}`, geometric mean with intervals as "
        "above. Over 1: that method is farther from float."
    )
    for distance in get_args(Distance):
        yield _ratios(frame, document, distance)


def differences(frame: pd.DataFrame, document: ComparisonDocument) -> Iterator[RivalInterval]:
    """Yield the intervals of the difference in report accuracy, first method minus rival, paired by seed.

    Args:
        frame: Rows of `as_frame`.
        document: The comparison.

    Yields:
        One interval, of fractions, per budget, rival and checkpoint at which at least two seeds of both found a policy.
    """
    ours, *rivals = document.agents
    by = frame.set_index(["budget", "evaluations", "agent", "seed"])["accuracy"].sort_index()
    for budget in document.budgets:
        for rival in rivals:
            for evaluations in document.checkpoints:
                paired = (by[budget, evaluations, ours] - by[budget, evaluations, rival]).dropna()
                if len(paired) > 1:
                    yield (
                        budget,
                        rival,
                        evaluations,
                        accuracy_interval(paired.tolist(), frame, document),
                    )


def accuracy_interval(paired: Sequence[float], frame: pd.DataFrame, document: ComparisonDocument) -> Interval:
    """Return the interval of the mean of paired accuracy differences.

    Accuracies are multiples of one over the number of images; other metrics have no such step. On the same images,
    differences share their rounding error. If every seed draws its own images, these errors are independent and the
    mean is resolved more finely.

    Args:
        paired: Differences of accuracies, as fractions.
        frame: Rows of `as_frame`, for the number of report images.
        document: The comparison, for the number of methods and whether images were redrawn.

    Returns:
        The interval, of fractions.
    """
    is_counted = document.records[0].metric == ACCURACY.name
    resolution = 1 / float(frame["report_images"].iloc[0]) if is_counted else 0.0
    if document.redraw:
        resolution /= len(paired) ** 0.5
    return paired_interval(paired, comparisons=len(document.agents) - 1, resolution=resolution)


def ratios(frame: pd.DataFrame, document: ComparisonDocument, distance: Distance) -> Iterator[RivalInterval]:
    """Yield the intervals of log(rival's distance from float / first method's distance), paired by seed.

    Args:
        frame: Rows of `as_frame`.
        document: The comparison.
        distance: Which distance on the report split.

    Yields:
        One interval per budget, rival and checkpoint at which at least two seeds of both found a policy.
    """
    ours, *rivals = document.agents
    logs = np.log(frame[f"report_{distance}"].astype(float).clip(lower=LEAST_DISTANCE))
    by = frame.assign(log=logs).set_index(["budget", "evaluations", "agent", "seed"])["log"].sort_index()
    for budget in document.budgets:
        for rival in rivals:
            for evaluations in document.checkpoints:
                paired = (by[budget, evaluations, rival] - by[budget, evaluations, ours]).dropna()
                if len(paired) > 1:
                    yield budget, rival, evaluations, paired_interval(paired.tolist(), comparisons=len(rivals))


def _accuracies(frame: pd.DataFrame, document: ComparisonDocument) -> Table:
    counts = (f"{count}\nevaluations" for count in document.checkpoints)
    unit, rows = metric_named(document.records[0].metric).plotted(1.0), []
    for budget in document.budgets:
        for agent in document.agents:
            of_method = frame[(frame["budget"] == budget) & (frame["agent"] == agent)]
            cells = []
            for count in document.checkpoints:
                found = unit * of_method[of_method["evaluations"] == count]["accuracy"].dropna()
                cells.append(_mean(found, document.seeds))
            last = of_method[of_method["evaluations"] == document.checkpoints[-1]]
            cost = [f"{last['forward_images'].mean():,.0f}", f"{last['cpu_seconds'].mean():.1f}"]
            rows.append((budget, agent, *cells, *cost))
    return Table(("budget", "method", *counts, "forward\nimages", "CPU s"), tuple(rows), text_columns=2)


def _unit(metric: Metric) -> str:
    """Return the unit of differences of scores, of which positive ones are gains.

    >>> _unit(metric_named("ap")), _unit(metric_named("perplexity"))
    ('points', 'perplexity, negated so that positive is better')
    """
    if metric.is_percent:
        return "points"
    return metric.name if metric.higher_is_better else f"{metric.name}, negated so that positive is better"


def _mean(found: "pd.Series[float]", seeds: int) -> str:
    """Format mean and standard deviation, and the number of seeds if some found no policy."""
    if found.empty:
        return "-"
    spread = f" ± {found.std():.2f}" if len(found) > 1 else ""
    return _of_seeds(f"{found.mean():.2f}{spread}", len(found), seeds)


def _of_seeds(text: str, n: int, seeds: int) -> str:
    return text if n == seeds else f"{text} ({n} of {seeds} seeds)"


def _differences(frame: pd.DataFrame, document: ComparisonDocument) -> Table:
    unit = 100 if metric_named(document.records[0].metric).is_percent else 1

    def text(interval: Interval) -> str:
        mean, low, high = (unit * value for value in (interval.mean, interval.low, interval.high))
        return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}] {interval.verdict}"

    return _by_rival(differences(frame, document), text, document)


def _ratios(frame: pd.DataFrame, document: ComparisonDocument, distance: Distance) -> Table:
    def text(interval: Interval) -> str:
        return f"{exp(interval.mean):.2f} [{exp(interval.low):.2f}, {exp(interval.high):.2f}]"

    return _by_rival(ratios(frame, document, distance), text, document, what=f"{distance},\n")


def _by_rival(
    found: Iterable[RivalInterval], text: Callable[[Interval], str], document: ComparisonDocument, *, what: str = ""
) -> Table:
    """Return a table of intervals with one row per rival; "-" where too few seeds of both found a policy."""
    checkpoints = document.checkpoints
    columns = ("budget", "other method", *(f"{what}{count} evaluations" for count in checkpoints))
    cells = {
        (budget, rival, count): _of_seeds(text(interval), interval.n, document.seeds)
        for budget, rival, count, interval in found
    }
    rows = tuple(
        (budget, rival, *(cells.get((budget, rival, count), "-") for count in checkpoints))
        for budget in document.budgets
        for rival in document.agents[1:]
    )
    return Table(columns, rows, text_columns=2)

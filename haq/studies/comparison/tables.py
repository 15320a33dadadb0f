"""The tables of a comparison: accuracies, and what the first method is worth beside each of the others.

Accuracy comes in images, of which a few hundred cannot tell good policies apart; how far the outputs are from the float
network's, on the same report images, tells more.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import StringIO
from math import exp
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from haq.formatting import Block, Table
from haq.studies.comparison.intervals import MARGIN, Interval, paired_interval

Json = Mapping[str, Any]
LEAST_DISTANCE = 1e-9
"""Below it outputs count as equal, float rounding being what it is."""
_SCOPE = {
    False: "This holds for chance in the search, on these images.",
    True: "Every seed draws its own images, of the report as well unless that takes all there are.",
}
"""What intervals hold for, by whether images were redrawn."""
Distance = Literal["noise", "divergence"]
"""Of a policy's outputs from the float network's."""


def as_frame(document: Json) -> pd.DataFrame:
    """One row a record: method, budget, seed, evaluations, and what came of it; NaN where no policy was found."""
    return pd.DataFrame(document["records"]).astype({"accuracy": float})


def as_csv(document: Json) -> str:
    """The same as text."""
    buffer = StringIO()
    as_frame(document).to_csv(buffer, index=False)
    return buffer.getvalue()


def report(document: Json) -> Iterator[Block]:
    """Report accuracy in percent of every method, and paired differences with the first method's verdict."""
    frame = as_frame(document)
    images = int(frame["report_images"].iloc[0])
    ours, *rivals = document["agents"]
    fp32 = 100 * frame["accuracy_fp32"].mean()
    yield (
        f"Report accuracy in percent on {images} images (float {fp32:.2f}), mean ± standard deviation over "
        f"{document['seeds']} seeds, of the policy that a method would have answered after so many evaluations. "
        "Forward images are those of all policies, prior and choice of the winner. CPU-seconds are as run, where "
        "policies that the store knew took next to none."
    )
    yield _accuracies(frame, document)
    if not rivals or document["seeds"] < 2:
        return
    yield (
        f"`{ours}` minus each rival in points, paired by seed, with 95 % intervals (Student's, by Bonferroni for "
        f"{len(rivals)} rivals). Ahead: the interval excludes 0. Not behind: it excludes a loss of {100 * MARGIN:g} "
        f"points. Open: neither can be said. {_SCOPE[bool(document.get('redraw'))]}"
    )
    yield _differences(frame, document)
    yield (
        "How far outputs are from the float network's on the report images, by the noise that the default reward "
        f"counts and by KL divergence: a rival's over that of `{ours}`, geometric mean with intervals as above. Over "
        "1: a rival is farther from float."
    )
    for distance in get_args(Distance):
        yield _ratios(frame, document, distance)


def differences(frame: pd.DataFrame, document: Json) -> Iterator[tuple[str, str, int, Interval]]:
    """Budget, rival, evaluations, and the interval of what the first method has more than the rival."""
    ours, *rivals = document["agents"]
    by = frame.set_index(["budget", "evaluations", "agent", "seed"])["accuracy"].sort_index()
    for budget in document["budgets"]:
        for rival in rivals:
            for evaluations in document["checkpoints"]:
                paired = (by[budget, evaluations, ours] - by[budget, evaluations, rival]).dropna()
                if len(paired) > 1:
                    yield (
                        budget,
                        rival,
                        evaluations,
                        accuracy_interval(paired.tolist(), frame, document),
                    )


def accuracy_interval(paired: Sequence[float], frame: pd.DataFrame, document: Json) -> Interval:
    """Of accuracies that come in images: rounded alike where the images are the same, each for itself where not."""
    resolution = 1 / float(frame["report_images"].iloc[0])
    if document.get("redraw"):
        resolution /= len(paired) ** 0.5
    return paired_interval(paired, comparisons=len(document["agents"]) - 1, resolution=resolution)


def ratios(frame: pd.DataFrame, document: Json, distance: Distance) -> Iterator[tuple[str, str, int, Interval]]:
    """Budget, rival, evaluations, and the interval of log(the rival's distance from float over the first method's)."""
    ours, *rivals = document["agents"]
    indexed = frame.set_index(["budget", "evaluations", "agent", "seed"])[f"report_{distance}"].sort_index()
    by = np.log(indexed.astype(float).clip(lower=LEAST_DISTANCE))
    for budget in document["budgets"]:
        for rival in rivals:
            for evaluations in document["checkpoints"]:
                paired = (by[budget, evaluations, rival] - by[budget, evaluations, ours]).dropna()
                if len(paired) > 1:
                    yield budget, rival, evaluations, paired_interval(paired.tolist(), comparisons=len(rivals))


def _accuracies(frame: pd.DataFrame, document: Json) -> Table:
    counts = (f"{count}\nevaluations" for count in document["checkpoints"])
    rows = []
    for budget in document["budgets"]:
        for agent in document["agents"]:
            of_method = frame[(frame["budget"] == budget) & (frame["agent"] == agent)]
            cells = []
            for count in document["checkpoints"]:
                found = 100 * of_method[of_method["evaluations"] == count]["accuracy"].dropna()
                cells.append(_mean(found, document["seeds"]))
            last = of_method[of_method["evaluations"] == document["checkpoints"][-1]]
            cost = [f"{last['forward_images'].mean():,.0f}", f"{last['cpu_seconds'].mean():.1f}"]
            rows.append((budget, agent, *cells, *cost))
    return Table(("budget", "method", *counts, "forward\nimages", "CPU s"), tuple(rows), text_columns=2)


def _mean(found: "pd.Series[float]", seeds: int) -> str:
    """With its spread, and of how many seeds where others found nothing within the budget."""
    if found.empty:
        return "-"
    spread = f" ± {found.std():.2f}" if len(found) > 1 else ""
    return _of_seeds(f"{found.mean():.2f}{spread}", len(found), seeds)


def _of_seeds(text: str, n: int, seeds: int) -> str:
    return text if n == seeds else f"{text} ({n} of {seeds} seeds)"


def _differences(frame: pd.DataFrame, document: Json) -> Table:
    def text(interval: Interval) -> str:
        mean, low, high = (100 * value for value in (interval.mean, interval.low, interval.high))
        return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}] {interval.verdict}"

    return _by_rival(differences(frame, document), text, document)


def _ratios(frame: pd.DataFrame, document: Json, distance: Distance) -> Table:
    def text(interval: Interval) -> str:
        return f"{exp(interval.mean):.2f} [{exp(interval.low):.2f}, {exp(interval.high):.2f}]"

    return _by_rival(ratios(frame, document, distance), text, document, what=f"{distance},\n")


def _by_rival(
    found: Iterable[tuple[str, str, int, Interval]], text: Callable[[Interval], str], document: Json, *, what: str = ""
) -> Table:
    """A table of intervals, one row a rival; "-" where too few seeds of both found a policy."""
    checkpoints: Sequence[int] = document["checkpoints"]
    columns = ("budget", "rival", *(f"{what}{count} evaluations" for count in checkpoints))
    cells = {
        (budget, rival, count): _of_seeds(text(interval), interval.n, document["seeds"])
        for budget, rival, count, interval in found
    }
    rows = tuple(
        (budget, rival, *(cells.get((budget, rival, count), "-") for count in checkpoints))
        for budget in document["budgets"]
        for rival in document["agents"][1:]
    )
    return Table(columns, rows, text_columns=2)

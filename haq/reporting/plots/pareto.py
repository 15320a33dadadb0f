"""Figure of a sweep: accuracy over cost, with a row for each device and a column for each cost."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from haq.formatting import BYTES, JOULES, SECONDS, Units, model_title
from haq.reporting.plots.style import (
    BLUE,
    HEADER_INCHES,
    LEGEND_INCHES,
    MUTED,
    ORANGE,
    SMALL_SIZE,
    TEXT_SIZE,
    add_header,
    house_style,
    new_figure,
)
from haq.reporting.study_documents import read_document
from haq.studies.pareto.fronts import AXES, found_points, uniform_points
from haq.studies.pareto.records import DOCUMENT, SweepDocument
from haq.tasks.metrics import metric_named
from hardware_sim.cost import Objective

PANEL_WIDTH, PANEL_HEIGHT = 2.7, 2.1
UNITS: Mapping[Objective, Units] = {"latency": SECONDS, "energy": JOULES, "size": BYTES}
ROOM = 0.12
"""Free part of the axis above and below the marks."""
SHOWN = 0.1
"""Largest loss that a panel shows, as a fraction of the float score; worse policies are drawn at the edge."""
LEAST = 0.02
"""Least range of scores below the best that a panel shows, as a fraction of the score."""


def load_sweep(folder: Path) -> SweepDocument:
    """Read the results of `haq pareto`.

    Args:
        folder: Folder of the sweep.

    Returns:
        The sweep.

    Raises:
        UserError: The folder holds no sweep, or its file is damaged.
    """
    return read_document(folder / DOCUMENT, SweepDocument, command="pareto")


@house_style()
def plot_pareto(document: SweepDocument, *, title: str | None = None) -> Figure:
    """Draw accuracy over cost: policies found, the front of every seed, and uniform bits.

    Args:
        document: Results of `haq pareto`.
        title: Title of the figure; network and metric if None.

    Returns:
        The figure, with a row of panels for each device and a column for each cost.
    """
    devices, records = document.devices, document.records
    axes = [axis for axis in AXES if any(front.axis == axis for front in document.fronts)]
    top = HEADER_INCHES + LEGEND_INCHES
    figure = new_figure(max(PANEL_WIDTH * len(axes), 6.0), PANEL_HEIGHT * len(devices) + top, top=top)
    panels = figure.subplots(len(devices), len(axes), squeeze=False, sharey="row")
    for row, device in enumerate(devices):
        for column, axis in enumerate(axes):
            panel: Axes = panels[row, column]
            if any(front.axis == axis and front.hardware == device for front in document.fronts):
                _draw(panel, document, device, axis)
            else:
                panel.set_visible(False)
            if row == 0:
                panel.set_title(axis, loc="left", size=TEXT_SIZE)
        metric = metric_named(records[0].metric)
        panels[row, 0].set_ylabel(f"{device}\n{metric.name}{', %' if metric.is_percent else ''}")
    figure.legend(
        handles=_handles(),
        loc="upper left",
        bbox_to_anchor=(0, 1 - HEADER_INCHES / figure.get_size_inches()[1]),
        ncols=4,
    ).set_in_layout(False)
    seeds = f"{document.seeds} seeds" if document.seeds > 1 else "1 seed"
    searched = f"searched for {', '.join(document.objectives)}, {seeds}"
    measured = f"{records[0].report_images} report {metric_named(records[0].metric).items}"
    subtitle = f"{searched}; {measured}; at the edge: worse than shown"
    named = f"{model_title(document.config['model'])}: what {document.records[0].metric} costs"
    add_header(figure, title or named, subtitle)
    return figure


def _handles() -> list[Line2D]:
    return [
        Line2D([], [], color=BLUE, marker="o", markersize=4, linestyle="none", label="policy found"),
        Line2D([], [], color=BLUE, label="front of a seed"),
        Line2D(
            [], [], color=ORANGE, marker="s", markersize=4, linestyle="none", label="uniform bits, weights/activations"
        ),
        Line2D([], [], color=MUTED, linestyle=":", label="float"),
    ]


def _draw(panel: Axes, document: SweepDocument, device: str, axis: Objective) -> None:
    records = document.records
    scale, unit = _unit(document, device, axis)
    percent = 100.0 if metric_named(records[0].metric).is_percent else 1.0
    found = [
        (cost / scale, percent * score)
        for seed in dict.fromkeys(record.seed for record in records)
        for cost, score in found_points(records, device, axis, seed)
    ]
    uniform = {
        name: (cost / scale, percent * score) for name, (cost, score) in uniform_points(records, device, axis).items()
    }
    fp32 = percent * records[0].accuracy_fp32
    low, high = _range([score for _, score in found], fp32)
    for front in document.fronts:
        if (front.hardware, front.axis) == (device, axis) and not front.is_uniform:
            line = [(each.cost / scale, percent * each.accuracy) for each in front.points]
            line.append((max(cost for cost, _ in found), line[-1][1]))
            panel.step(*zip(*line, strict=True), where="post", color=BLUE, linewidth=1.0, alpha=0.7)
    panel.axhline(fp32, color=MUTED, linewidth=0.8, linestyle=":")
    for name, point in uniform.items():
        w_bits, a_bits = name.split("/")
        _mark(panel, point, low, marker="s", label=name if w_bits == a_bits else "")
    for point in dict.fromkeys(found):
        _mark(panel, point, low, marker="o")
    panel.set_ylim(low, high)
    panel.margins(x=0.12)
    panel.set_xlabel(unit)
    panel.xaxis.set_major_locator(MaxNLocator(5))


def _mark(panel: Axes, point: tuple[float, float], low: float, *, marker: str, label: str = "") -> None:
    """Draw a circle for a policy found or a square for uniform bits; a triangle at the edge for worse scores."""
    cost, score = point
    is_found = marker == "o"
    colour = BLUE if is_found else ORANGE
    place, shape = (low, "v") if score < low else (score, marker)
    panel.scatter([cost], [place], s=14, color=colour, marker=shape, zorder=3 if is_found else 2, lw=0, clip_on=False)
    text = f"{score:.3g}" if is_found and score < low else label
    offset = (3, 9 if is_found else 2) if score < low else (3, -9)
    panel.annotate(text, (cost, place), offset, textcoords="offset points", size=SMALL_SIZE - 0.5)


def _range(found: list[float], fp32: float) -> tuple[float, float]:
    """Return the range of scores that a panel shows."""
    best = max(*found, fp32)
    shown = [score for score in found if score >= fp32 - SHOWN * abs(fp32)] or found
    least = min(*shown, best - LEAST * abs(best))
    margin = ROOM * (best - least) or 1.0  # where all scores are 0
    return least - margin, best + margin


def _unit(document: SweepDocument, device: str, axis: Objective) -> tuple[float, str]:
    """Return the unit of an axis, in SI units, and its name."""
    most = max(record.cost.value(axis) or 0.0 for record in document.records if record.hardware == device)
    return next((unit for unit in reversed(UNITS[axis]) if most >= unit[0]), UNITS[axis][0])

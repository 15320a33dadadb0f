"""Figure of sensitivities: loss of each layer at each width, weights above inputs."""

from collections.abc import Sequence
from math import ceil
from typing import Annotated, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import Field

from haq.formatting import model_title
from haq.reporting.plots.policy import (
    LINE_POINTS,
    MAX_WIDTH,
    MIN_WIDTH,
    PANEL_INCHES,
    SIDES_INCHES,
    SLOT_INCHES,
    shortened,
)
from haq.reporting.plots.style import (
    GLYPH_WIDTH,
    HEADER_INCHES,
    POINTS_PER_INCH,
    SMALL_SIZE,
    VERMILION,
    add_header,
    house_style,
    new_figure,
)
from haq.runs.records import Finite, Metric, Record
from haq.tasks.metrics import ACCURACY, metric_of

SHADES = LinearSegmentedColormap.from_list("shades", ("white", VERMILION, "#3b1500"))
DECADES = 4
"""Powers of ten below the largest divergence at which a cell is white."""
BAR_INCHES = 0.9


class _Layer(Record):
    name: str


class _Cell(Record):
    part: Literal["weights", "input"]
    bits: int
    divergence: Finite | None
    fisher: Finite


class SensitivityTable(Record):
    """Fields of `sensitivity.json` that the figure uses.

    Attributes:
        model: Name of the network.
        metric: Metric of the task.
        images: Number of images of the measurement; 0 if nothing was measured.
        accuracy_fp32: Score of the float network on these.
        layers: Layers in the order of execution.
        cells: Layers by weights and input by widths, the widths innermost.
    """

    model: str
    metric: Metric = Metric(name=ACCURACY.name)
    images: int
    accuracy_fp32: Finite | None
    layers: Annotated[tuple[_Layer, ...], Field(min_length=1)]
    cells: Annotated[tuple[_Cell, ...], Field(min_length=1)]


@house_style()
def plot_sensitivity(table: SensitivityTable) -> Figure:
    """Draw the loss of each layer at each width as a shaded cell; darker cells have a larger divergence.

    If nothing was measured, the figure shows the estimates from the Fisher information.

    Args:
        table: Sensitivities of a run.

    Returns:
        The figure, with weights above inputs.
    """
    names = [shortened(layer.name) for layer in table.layers]
    panels = {part: _grid(table, part) for part in ("weights", "input")}
    width = min(max(MIN_WIDTH, SIDES_INCHES + BAR_INCHES + SLOT_INCHES * len(names)), MAX_WIDTH)
    slot_points = (width - SIDES_INCHES - BAR_INCHES) / len(names) * POINTS_PER_INCH
    bottom = max(map(len, names)) * GLYPH_WIDTH * SMALL_SIZE / POINTS_PER_INCH
    figure = new_figure(width, HEADER_INCHES + 2 * PANEL_INCHES + bottom, top=HEADER_INCHES)
    upper, lower = figure.subplots(2, 1, sharex=True)
    most = max(float(np.nanmax(grid)) for grid in panels.values()) or 1.0
    norm = LogNorm(most / 10**DECADES, most, clip=True)
    widths = sorted({cell.bits for cell in table.cells})
    for axes, (part, grid) in zip((upper, lower), panels.items(), strict=True):
        mesh = axes.pcolormesh(np.maximum(grid, norm.vmin or 0.0), norm=norm, cmap=SHADES, edgecolors="white")
        _label(axes, f"bits of {part}", widths)
    step = ceil(LINE_POINTS / slot_points)
    ticks = [place + 0.5 for place in range(0, len(names), step)]
    lower.set_xticks(ticks, names[::step], rotation=90, parse_math=False)
    figure.colorbar(mesh, ax=(upper, lower), label="divergence, nats", pad=0.02)
    add_header(figure, f"sensitivity of {model_title(table.model)}", _subtitle(table))
    return figure


def _grid(table: SensitivityTable, part: str) -> NDArray[np.float64]:
    """Return the divergence of weights or inputs, [width, layer], measured or estimated."""
    values = [cell.divergence if table.images else cell.fisher for cell in table.cells if cell.part == part]
    return np.array(values, dtype=np.float64).reshape(len(table.layers), -1).T


def _label(axes: Axes, label: str, widths: Sequence[int]) -> None:
    axes.set_ylabel(label)
    axes.set_yticks([place + 0.5 for place in range(len(widths))], [str(width) for width in widths])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _subtitle(table: SensitivityTable) -> str:
    if not table.images or table.accuracy_fp32 is None:
        return "one layer at a time, the rest in float; expected from the Fisher information"
    metric = metric_of(table.metric)
    score = metric.text(table.accuracy_fp32)
    return f"one layer at a time, the rest in float; {table.images} {metric.items}, float {metric.name} {score}"

"""The picture of sensitivities: what each layer loses at each width, weights above inputs."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from haq.formatting import model_title
from haq.report.plots.policy import (
    LINE_POINTS,
    MAX_WIDTH,
    MIN_WIDTH,
    PANEL_INCHES,
    SIDES_INCHES,
    SLOT_INCHES,
    shortened,
)
from haq.report.plots.style import (
    GLYPH_WIDTH,
    HEADER_INCHES,
    POINTS_PER_INCH,
    SMALL_SIZE,
    VERMILION,
    add_header,
    house_style,
    new_figure,
)
from haq.tasks.metrics import metric_in

Json = Mapping[str, Any]
SHADES = LinearSegmentedColormap.from_list("shades", ("white", VERMILION, "#3b1500"))
DECADES = 4
"""Below the largest divergence by so many powers of ten, a cell is white."""
BAR_INCHES = 0.9


@house_style()
def plot_sensitivity(document: Json) -> Figure:
    """Two panels of cells, layers by widths: the darker, the further are the outputs from the float network's.

    Shows what was measured, or what the Fisher information makes expect where nothing was.
    """
    names = [shortened(layer["name"]) for layer in document["layers"]]
    is_measured = bool(document["images"])
    panels = {part: _grid(document, part, "divergence" if is_measured else "fisher") for part in ("weights", "input")}
    width = min(max(MIN_WIDTH, SIDES_INCHES + BAR_INCHES + SLOT_INCHES * len(names)), MAX_WIDTH)
    slot_points = (width - SIDES_INCHES - BAR_INCHES) / len(names) * POINTS_PER_INCH
    bottom = max(map(len, names)) * GLYPH_WIDTH * SMALL_SIZE / POINTS_PER_INCH
    figure = new_figure(width, HEADER_INCHES + 2 * PANEL_INCHES + bottom, top=HEADER_INCHES)
    upper, lower = figure.subplots(2, 1, sharex=True)
    most = max(float(np.nanmax(grid)) for grid in panels.values()) or 1.0
    norm = LogNorm(most / 10**DECADES, most, clip=True)
    widths = sorted({cell["bits"] for cell in document["cells"]})
    for axes, (part, grid) in zip((upper, lower), panels.items(), strict=True):
        mesh = axes.pcolormesh(np.maximum(grid, norm.vmin or 0.0), norm=norm, cmap=SHADES, edgecolors="white")
        _label(axes, f"bits of {part}", widths)
    step = ceil(LINE_POINTS / slot_points)
    ticks = [place + 0.5 for place in range(0, len(names), step)]
    lower.set_xticks(ticks, names[::step], rotation=90, parse_math=False)
    figure.colorbar(mesh, ax=(upper, lower), label="divergence, nats", pad=0.02)
    add_header(figure, f"sensitivity of {model_title(document['model'])}", _subtitle(document))
    return figure


def _grid(document: Json, part: str, key: str) -> NDArray[np.float64]:
    """[width, layer] of one part."""
    values = [cell[key] for cell in document["cells"] if cell["part"] == part]
    return np.array(values, dtype=np.float64).reshape(len(document["layers"]), -1).T


def _label(axes: Axes, label: str, widths: Sequence[int]) -> None:
    axes.set_ylabel(label)
    axes.set_yticks([place + 0.5 for place in range(len(widths))], [str(width) for width in widths])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _subtitle(document: Json) -> str:
    if not document["images"]:
        return "one layer at a time, the rest in float; expected from the Fisher information"
    metric = metric_in(document)
    score = metric.text(document["accuracy_fp32"])
    return f"one layer at a time, the rest in float; {document['images']} images, float {metric.name} {score}"

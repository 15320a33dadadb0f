"""Figure of sensitivities: loss of each layer at each width, weights above inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import Field

from haq.formatting import model_title
from haq.policy import Policy
from haq.reporting.plots.layer_axis import SIDES_INCHES, LayerAxis
from haq.reporting.plots.policy import MAX_BITS, PANEL_INCHES, PARTS
from haq.reporting.plots.style import BLUE, HEADER_INCHES, VERMILION, add_header, house_style, new_figure
from haq.runs.layer_errors import LayerErrors
from haq.runs.records import Finite, Metric, Record
from haq.tasks.metrics import ACCURACY, metric_of
from hardware_sim.cost import Bits

SHADES = LinearSegmentedColormap.from_list("shades", ("#fbe3d3", VERMILION, "#3b1500"), N=48)
"""As matplotlib draws the colour bar of 50 shades and more as an image."""
DECADES, EXPECTED_DECADES = 4, 5
"""Powers of ten below the largest loss at which a cell is palest; of measured and of expected losses."""
FEWEST_EXPECTED = 2
"""Fewest bits whose expected losses are drawn; those of one bit are so large that others look alike."""
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


@dataclass(frozen=True, slots=True, eq=False)
class _Shown:
    """What a figure shows.

    Attributes:
        names: Names of the layers.
        widths: Widths of the rows.
        panels: Losses by part, [width, layer]; NaN for a missing one.
        unit: Label of the losses.
        decades: Powers of ten below the largest loss at which a cell is white.
        bits: Widths that are marked by part, [layer]; None marks none.
    """

    names: Sequence[str]
    widths: Sequence[int]
    panels: Mapping[str, NDArray[np.float64]]
    unit: str
    decades: int = DECADES
    bits: Mapping[str, Sequence[Bits]] | None = None


@house_style()
def plot_sensitivity(table: SensitivityTable, *, title: str | None = None) -> Figure:
    """Draw the loss of each layer at each width as a shaded cell; darker cells have a larger divergence.

    If nothing was measured, the figure shows the estimates from the Fisher information.

    Args:
        table: Sensitivities of a run.
        title: Title of the figure; the network's name if None.

    Returns:
        The figure, with weights above inputs.
    """
    names = [layer.name for layer in table.layers]
    panels = {part: _grid(table, part) for part in PARTS}
    figure = _draw(_Shown(names, sorted({cell.bits for cell in table.cells}), panels, "divergence, nats"))
    add_header(figure, title or f"sensitivity of {model_title(table.model)}", _subtitle(table))
    return figure


@house_style()
def plot_expected(errors: LayerErrors, policy: Policy, *, title: str | None = None) -> Figure:
    """Draw the output error that a search expected of each layer at each width as a shaded cell.

    Args:
        errors: Errors of the layers, with those that the search expected.
        policy: Policy of the search, whose bits are marked.
        title: Title of the figure; the network's name if None.

    Returns:
        The figure, with weights above inputs.

    Raises:
        ValueError: The search expected none.
    """
    if any(layer.weights is None or layer.input is None for layer in errors.layers):
        raise ValueError("the search computed no prior")
    bits = {"weights": policy.w_bits, "input": policy.a_bits}
    fewest = min((width for part in bits.values() for width in part if width is not None), default=FEWEST_EXPECTED)
    widths = range(min(fewest, FEWEST_EXPECTED), MAX_BITS + 1)
    panels = {
        "weights": np.array([layer.weights for layer in errors.layers]).T[widths.start - 1 :],
        "input": np.array([layer.input for layer in errors.layers]).T[widths.start - 1 :],
    }
    names = [layer.name for layer in errors.layers]
    figure = _draw(_Shown(names, widths, panels, "relative output error", EXPECTED_DECADES, bits))
    subtitle = "one layer at a time, as the search expected before its first policy; dots: bits of the policy"
    add_header(figure, title or f"sensitivity of {model_title(policy.model)}", subtitle)
    return figure


def _draw(shown: _Shown) -> Figure:
    """Draw the panels without a header."""
    axis = LayerAxis.of(shown.names, sides=SIDES_INCHES + BAR_INCHES)
    figure = new_figure(axis.width, HEADER_INCHES + 2 * PANEL_INCHES + axis.inches, top=HEADER_INCHES)
    upper, lower = figure.subplots(2, 1, sharex=True)
    most = max(float(np.nanmax(grid)) for grid in shown.panels.values()) or 1.0
    norm = LogNorm(most / 10**shown.decades, most, clip=True)
    for axes, (part, grid) in zip((upper, lower), shown.panels.items(), strict=True):
        mesh = axes.pcolormesh(np.maximum(grid, norm.vmin or 0.0), norm=norm, cmap=SHADES, edgecolors="white")
        if shown.bits is not None:
            places = [(layer, width) for layer, width in enumerate(shown.bits[part]) if width is not None]
            x, y = zip(*((layer + 0.5, shown.widths.index(width) + 0.5) for layer, width in places), strict=True)
            axes.scatter(x, y, s=12, color=BLUE, edgecolors="white", linewidths=0.8, zorder=2)
        _label(axes, f"bits of {part}", shown.widths)
    axis.label(lower, centre=0.5)
    figure.colorbar(mesh, ax=(upper, lower), label=shown.unit, pad=0.02)
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

"""Figure of specialization: cost of policies on devices, relative to the best policy for each device."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from haq.costs.specialization import ComparedPolicy, Specialization
from haq.errors import UserError
from haq.formatting import format_cost, model_title
from haq.reporting.plots.layer_axis import shortened
from haq.reporting.plots.style import (
    BLUE,
    FAINT,
    GLYPH_WIDTH,
    HEADER_INCHES,
    INK,
    MUTED,
    POINTS_PER_INCH,
    SMALL_SIZE,
    TEXT_SIZE,
    add_header,
    house_style,
    new_figure,
)
from haq.tasks.metrics import ACCURACY, metric_named
from hardware_sim.cost import Objective

CELL_WIDTH, CELL_HEIGHT, COLUMN_LABEL_INCHES = 1.05, 0.5, 0.4
FEWEST_COLUMNS = 4
"""Least width at which the header is complete."""
WORST_SHOWN = 1.5
"""Ratio to the best cost at which a cell is darkest."""
SHADES = LinearSegmentedColormap.from_list("shades", ("white", BLUE))
DARKEST = 0.75
"""Largest share of the colour at which dark text is readable."""


@house_style()
def plot_specialization(matrix: Specialization, *, title: str | None = None) -> Figure:
    """Draw a matrix of policies by devices.

    A cell shows the cost in the objective, and by how much it exceeds that of the cheapest policy for the device; a
    frame marks the device for which a policy was searched.

    Args:
        matrix: Costs of policies on devices.
        title: Title of the figure; cost and network if None.

    Returns:
        The figure.

    Raises:
        UserError: No device can run any of the policies.
    """
    objective: Objective = matrix.objective
    costs = _costs(matrix)
    if np.isnan(costs).all():
        reason = next(cell.refused for row in matrix.costs for cell in row)
        raise UserError(f"there is no {objective} to draw: {reason}")
    names = [_policy_label(policy) for policy in matrix.policies]
    label_inches = max(len(line) for name in names for line in name.split("\n")) * GLYPH_WIDTH * TEXT_SIZE
    label_inches = label_inches / POINTS_PER_INCH + 0.2
    width = label_inches + CELL_WIDTH * max(FEWEST_COLUMNS, len(matrix.devices))
    height = HEADER_INCHES + COLUMN_LABEL_INCHES + CELL_HEIGHT * len(names) + 0.1
    figure = new_figure(width, height, top=HEADER_INCHES)
    axes = figure.subplots()
    _draw_cells(axes, matrix, costs)
    _label(axes, names, [f"{device.hardware}\nbatch {device.batch}" for device in matrix.devices])
    estimated = objective == "energy" and any("energy" in note for each in matrix.devices for note in each.notes)
    title = title or f"{'estimated ' if estimated else ''}{objective} of {model_title(matrix.model)}"
    add_header(figure, title, "policies by device, over the cheapest in the column; framed: made for it")
    return figure


def _costs(matrix: Specialization) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return costs [policy, device]; NaN where a device refuses a policy."""
    return np.array(
        [[np.nan if cost.refused else cost.of(matrix.objective) for cost in row] for row in matrix.costs],
        dtype=np.float64,
    )


def _policy_label(policy: ComparedPolicy) -> str:
    name = shortened(policy.name)
    if policy.accuracy is None:
        return name
    score = metric_named(policy.metric).text(policy.accuracy)
    return f"{name}\n{score if policy.metric == ACCURACY.name else f'{policy.metric} {score}'}"


def _draw_cells(axes: Axes, matrix: Specialization, costs: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    least = np.fmin.reduce(costs, axis=0)
    for (row, column), cost in np.ndenumerate(costs):
        policy, device = matrix.policies[row], matrix.devices[column]
        is_searched_for = policy.hardware == device.hardware
        above = cost / least[column] - 1 if least[column] > 0 else 0.0
        shade = FAINT if np.isnan(cost) else SHADES(DARKEST * min(1.0, above / (WORST_SHOWN - 1)))
        axes.add_patch(Rectangle((column, row), 1, 1, facecolor=shade, edgecolor="white", linewidth=1))
        if is_searched_for:
            frame = Rectangle((column + 0.03, row + 0.06), 0.94, 0.88, fill=False, edgecolor=INK, linewidth=1.4)
            axes.add_patch(frame)
        _write(axes, (column + 0.5, row + 0.5), _cell_lines(matrix.objective, cost, above))


def _cell_lines(objective: Objective, cost: float, above: float) -> Sequence[str]:
    if np.isnan(cost):
        return ("refused",)
    return format_cost(objective, cost), "cheapest" if above == 0 else f"+{100 * above:.1f} %"


def _write(axes: Axes, centre: tuple[float, float], lines: Sequence[str]) -> None:
    x, y = centre
    if len(lines) == 1:
        axes.text(x, y, lines[0], ha="center", va="center", size=SMALL_SIZE, color=MUTED)
        return
    axes.text(x, y - 0.16, lines[0], ha="center", va="center", size=TEXT_SIZE)
    axes.text(x, y + 0.2, lines[1], ha="center", va="center", size=SMALL_SIZE)


def _label(axes: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    axes.set_xlim(0, len(columns))
    axes.set_ylim(len(rows), 0)
    axes.set_xticks([column + 0.5 for column in range(len(columns))], columns)
    axes.set_yticks([row + 0.5 for row in range(len(rows))], rows, parse_math=False)
    axes.tick_params(length=0, bottom=False, labelbottom=False, labeltop=True, labelsize=SMALL_SIZE)
    axes.tick_params(axis="y", labelsize=TEXT_SIZE)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)

"""Figure of several policies of one network: the bits of every layer, a row for each policy."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from haq.policy import Policy
from haq.reporting.plots.layer_axis import LayerAxis, shortened
from haq.reporting.plots.policy import LABELS, MAX_BITS, NUMBERED_SLOT_POINTS
from haq.reporting.plots.style import (
    BLUE,
    FAINT,
    GLYPH_WIDTH,
    HEADER_INCHES,
    INK,
    POINTS_PER_INCH,
    SMALL_SIZE,
    add_header,
    house_style,
    new_figure,
)
from hardware_sim.cost import Bits

ROW_INCHES, LABEL_INCHES = 0.22, 0.3
LONGEST_LABEL = 40
LIGHTEST = 0.08
"""Share of the colour at one bit."""
DARK_FROM = 6
"""Bits from which a cell is so dark that its number is white."""


@house_style()
def plot_policies(policies: Mapping[str, Policy], *, title: str = "Bits of every layer") -> Figure:
    """Draw the bits of all layers of several policies as shaded cells, weights above activations.

    Args:
        policies: Policies of one network by name.
        title: Title of the figure.

    Returns:
        The figure.
    """
    first = next(iter(policies.values()))
    names = [shortened(name, longest=LONGEST_LABEL) for name in policies]
    sides = 0.2 + max(map(len, names)) * GLYPH_WIDTH * SMALL_SIZE / POINTS_PER_INCH
    axis = LayerAxis.of([layer.name for layer in first.layers], sides=sides)
    height = HEADER_INCHES + 2 * (LABEL_INCHES + ROW_INCHES * len(names)) + axis.inches
    figure = new_figure(axis.width, height, top=HEADER_INCHES)
    upper, lower = figure.subplots(2, 1, sharex=True)
    is_numbered = axis.slot_points >= NUMBERED_SLOT_POINTS
    for axes, label, widths in (
        (upper, LABELS[0], [policy.w_bits for policy in policies.values()]),
        (lower, LABELS[1], [policy.a_bits for policy in policies.values()]),
    ):
        _draw_cells(axes, np.array([list(map(_height, row)) for row in widths]), is_numbered=is_numbered)
        axes.set_title(label, loc="left", size=SMALL_SIZE)
        axes.set_yticks([row + 0.5 for row in range(len(names))], names, parse_math=False, size=SMALL_SIZE)
    axis.label(lower, centre=0.5)
    add_header(figure, title, "darker cells have more bits; f and grey: left in float")
    return figure


def _height(bits: Bits) -> int:
    """Return the bits, and one more than the most bits for float."""
    return MAX_BITS + 1 if bits is None else bits


def _draw_cells(axes: Axes, bits: np.ndarray[tuple[int, ...], np.dtype[np.int64]], *, is_numbered: bool) -> None:
    shares = np.linspace(LIGHTEST, 1, MAX_BITS)[:, None]
    blue = np.array([int(BLUE[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    colours = ListedColormap([*(1 - shares * (1 - blue)), FAINT])
    axes.pcolormesh(bits, cmap=colours, vmin=0.5, vmax=MAX_BITS + 1.5, edgecolors="white", linewidth=0.8)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    if not is_numbered:
        return
    for (row, layer), width in np.ndenumerate(bits):
        text, colour = ("f", INK) if width > MAX_BITS else (str(width), "white" if width >= DARK_FROM else INK)
        axes.text(layer + 0.5, row + 0.5, text, ha="center", va="center", size=SMALL_SIZE - 0.5, color=colour)

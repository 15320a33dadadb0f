"""Figure of the errors of layers: what each of them adds, and what has accumulated, in the order of execution."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from haq.formatting import counted
from haq.reporting.plots.layer_axis import LayerAxis, shortened
from haq.reporting.plots.style import (
    HEADER_INCHES,
    INK,
    LEGEND_INCHES,
    MARKS,
    add_header,
    add_legend,
    house_style,
    new_figure,
)
from haq.runs.layer_errors import LayerErrors
from hardware_sim.layer import LayerKind

PLOT_INCHES = 2.4
LEAST = 1e-12
"""Errors below are drawn at the lower edge, as the axis is logarithmic."""
EDGES = {"edgecolors": "white", "linewidths": 0.5}
LARGEST_SHOWN = 2
"""Layers that the subtitle names."""
LONGEST_NAME = 24
"""Characters of the name of a layer in the subtitle."""


@house_style()
def plot_error(errors: LayerErrors, kinds: Sequence[LayerKind], *, title: str = "Error of each layer") -> Figure:
    """Draw the error that each layer adds as marks, and the error that has accumulated at its output as a line.

    Both are relative to the power of the layer's output in the float network, on a logarithmic axis.

    Args:
        errors: Errors of all layers.
        kinds: Kinds of the layers.
        title: Title of the figure.

    Returns:
        The figure.
    """
    names = [layer.name for layer in errors.layers]
    axis = LayerAxis.of(names)
    top = HEADER_INCHES + LEGEND_INCHES
    figure = new_figure(axis.width, top + PLOT_INCHES + axis.inches, top=top)
    axes = figure.subplots()
    added, accumulated = (
        np.array([np.nan if value is None else max(value, LEAST) for value in values])
        for values in zip(*((layer.added, layer.accumulated) for layer in errors.layers), strict=True)
    )
    axes.plot(accumulated, color=INK, linewidth=1.2, drawstyle="steps-mid", zorder=1.5)
    handles: list[Artist] = [Line2D([], [], color=INK, linewidth=1.2, label="accumulated")]
    for kind, mark in MARKS.items():
        places = [place for place, other in enumerate(kinds) if other == kind]
        if places:
            axes.vlines(places, LEAST / 10, added[places], color=mark.colour, linewidth=1.4, alpha=0.6, zorder=1)
            look: dict[str, Any] = {
                "color": mark.colour,
                "marker": mark.marker,
                "s": 22,
                "edgecolors": "white",
                "linewidths": 0.5,
            }
            axes.scatter(places, added[places], zorder=2, **look)
            handles.append(axes.scatter([], [], label=f"added, {mark.label}", **look))
    axes.set_yscale("log")
    known = np.concatenate((added, accumulated))
    axes.set_ylim(np.nanmin(known, initial=1.0) / 2, np.nanmax(known, initial=LEAST) * 2)
    axes.set_ylabel("relative error\nof the output")
    axis.limit(axes)
    axis.label(axes)
    add_legend(axes, handles)
    add_header(figure, title, error_subtitle(errors))
    return figure


def error_subtitle(errors: LayerErrors) -> str:
    """Name the layers that add most.

    Args:
        errors: Errors of all layers.

    Returns:
        One line.

    Examples:
        >>> from haq.runs.layer_errors import LayerError
        >>> layer = LayerError(name="stem", added=0.2, accumulated=0.2)
        >>> error_subtitle(LayerErrors(images=32, layers=(layer,)))
        'largest: stem; 32 calibration images'
    """
    known = [(layer.added, layer.name) for layer in errors.layers if layer.added]
    largest = [
        shortened(name, longest=LONGEST_NAME) for _, name in sorted(known, key=lambda pair: -pair[0])[:LARGEST_SHOWN]
    ]
    measured = f"{counted(errors.images, 'calibration image')}"
    return f"largest: {', '.join(largest)}; {measured}" if largest else f"no layer adds an error; {measured}"

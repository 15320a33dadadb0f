"""Style of all figures: fonts, sizes, a palette for colour-blind readers, header and legend."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from math import ceil
from typing import Any

import matplotlib.style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from hardware_sim.layer import LayerKind

POINTS_PER_INCH = 72
GLYPH_WIDTH = 0.6
"""Average width of a character over the font size, rounded up."""
TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 10.0, 8.0, 6.5
NOTEBOOK_DPI = 100
HEADER_INCHES, LEGEND_INCHES, MARGIN_INCHES = 0.5, 0.25, 0.08

INK, MUTED, FAINT = "#1a1a1a", "#5c5c5c", "#dddddd"
# Okabe and Ito, "Color Universal Design" (2008).
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, YELLOW = "#56B4E9", "#CC79A7", "#F0E442"

RC: Mapping[str, Any] = {
    "font.family": "DejaVu Sans",  # included in matplotlib, so that figures are equal on all machines
    "font.size": TEXT_SIZE,
    "text.color": INK,
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.labelsize": TEXT_SIZE,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.8,
    "legend.fontsize": TEXT_SIZE,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.columnspacing": 1.6,
    "lines.linewidth": 1.4,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.labelsize": SMALL_SIZE,
    "xtick.major.width": 0.6,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": TEXT_SIZE,
    "ytick.major.width": 0.6,
    "pdf.fonttype": 42,  # text that can be searched and copied
    "svg.hashsalt": "haq",  # otherwise the ids in the file are random
}


@dataclass(frozen=True, slots=True)
class Mark:
    """Label, colour and mark of a kind of layer in all figures.

    Attributes:
        label: Label in the legend.
        colour: Colour of marks and bars.
        marker: Matplotlib's marker.
        hatch: Matplotlib's hatch of bars; None for filled bars.
    """

    label: str
    colour: str
    marker: str
    hatch: str | None = None


MARKS: Mapping[LayerKind, Mark] = {
    "conv": Mark("convolution", BLUE, "o"),
    "depthwise": Mark("depthwise", ORANGE, "D", hatch="/////"),
    "conv_transpose": Mark("transposed", SKY, "v"),
    "linear": Mark("linear", GREEN, "s"),
    "matmul": Mark("matmul", PURPLE, "^"),
    "embedding": Mark("embedding", YELLOW, "P"),
    "recurrent": Mark("recurrent", VERMILION, "X"),
}


@contextmanager
def house_style() -> Iterator[None]:
    """Apply the style of all figures to a block or a function, independent of the user's matplotlibrc."""
    with matplotlib.style.context(dict(RC), after_reset=True):
        yield


class NotebookFigure(Figure):
    """Figure that notebooks show without pyplot."""

    def _repr_png_(self) -> bytes:
        """Draw the figure as a PNG file."""
        buffer = BytesIO()
        with house_style():
            self.savefig(buffer, format="png", dpi=NOTEBOOK_DPI)
        return buffer.getvalue()


def new_figure(width: float, height: float, *, top: float = HEADER_INCHES) -> Figure:
    """Create an empty figure without a window.

    Args:
        width: Width in inches.
        height: Height in inches.
        top: Part of the height that is reserved for header and legend, in inches.

    Returns:
        The figure.
    """
    pad = MARGIN_INCHES
    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - top / height), w_pad=pad, h_pad=pad)
    figure = NotebookFigure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def add_legend(axes: Axes, handles: Sequence[Artist], *, rows: int = 1) -> None:
    """Add one legend for all panels in the space that `new_figure` reserved.

    Args:
        axes: Uppermost panel, above which the legend is placed.
        handles: Entries of the legend.
        rows: Number of rows.
    """
    columns = ceil(len(handles) / rows)
    legend = axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.4)
    legend.set_in_layout(False)  # otherwise a wide legend would make the panel narrow


def add_header(figure: Figure, title: str, subtitle: str) -> None:
    """Add title and subtitle at the top left, cut to the width of the figure.

    Args:
        figure: Figure of `new_figure`.
        title: First line, in bold.
        subtitle: Second line.
    """
    width, height = figure.get_size_inches()
    for text, top, size, weight, colour in (
        (title, 0.1, TITLE_SIZE, "bold", INK),
        (subtitle, 0.3, TEXT_SIZE, "normal", MUTED),
    ):
        longest = int((width - 2 * MARGIN_INCHES) * POINTS_PER_INCH / (GLYPH_WIDTH * size))
        figure.text(
            MARGIN_INCHES / width,
            1 - top / height,
            text if len(text) <= longest else f"{text[: longest - 1]}…",
            size=size,
            weight=weight,
            color=colour,
            va="top",
            in_layout=False,
            parse_math=False,
        )

"""Tables and the picture of `compare_learned_shifts.py`."""

from collections.abc import Iterable
from statistics import mean, stdev
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from haq.reporting.plots.style import (
    BLUE,
    HEADER_INCHES,
    INK,
    MUTED,
    ORANGE,
    VERMILION,
    add_header,
    house_style,
    new_figure,
)
from haq.studies.comparison.intervals import paired_interval

SHIFTS = {"none": MUTED, "fixed": ORANGE, "learned": BLUE}
LEARN = {"all": "everything learns", "quantizers": "scales and shifts alone learn"}
MAX_LEVELS = 4
"""Largest number of levels below zero in the plot of the loss."""
CALIBRATED = "rings: mean of the calibrated values"
Row = dict[str, Any]


def accuracies(rows: Iterable[Row], **which: Any) -> list[float]:
    """Return accuracies in percent, ordered by seed."""
    chosen = [row for row in rows if all(row[key] == value for key, value in which.items())]
    return [100 * row["accuracy"] for row in sorted(chosen, key=lambda row: row["seed"])]


def table(rows: list[Row], bits: Iterable[int], learn: str) -> list[str]:
    """Return a Markdown table: accuracies by kind of shift, paired differences, and how far shifts moved."""
    control = accuracies(rows, shift="float")
    lines = [
        f"| bits | {' | '.join(f'{shift} shift' for shift in SHIFTS)} | fixed - none | learned - fixed | "
        "learned - float trained on | shifts moved by, in codes: mean, most | zero points moved |",
        "|---" * 9 + "|",
    ]
    for width in bits:
        found = {shift: accuracies(rows, bits=width, shift=shift, learn=learn) for shift in SHIFTS}
        cells = [f"{mean(values):.2f} ± {stdev(values):.2f}" for values in found.values()]
        for one, other in (("fixed", "none"), ("learned", "fixed"), ("learned", "float")):
            before = found.get(other, control)
            each = paired_interval([ours - theirs for ours, theirs in zip(found[one], before, strict=True)])
            cells.append(f"{each.mean:+.2f} ({each.low:+.2f} to {each.high:+.2f})")
        moved = [row for row in rows if (row["bits"], row["shift"], row["learn"]) == (width, "learned", learn)]
        cells.append(
            f"{mean(row['mean_moved_codes'] for row in moved):.2f}, {max(row['most_moved_codes'] for row in moved):.2f}"
        )
        cells.append(
            f"{sum(row['zero_points_moved'] for row in moved)} of {sum(row['learned_shifts'] for row in moved)}"
        )
        lines.append(f"| W{width}A{width} | " + " | ".join(cells) + " |")
    return lines


def picture(rows: list[Row], losses: list[Row], title: str) -> Figure:
    """Plot accuracies by kind of shift for each set of trained parameters, and the loss before training."""
    with house_style():
        ways = [learn for learn in LEARN if accuracies(rows, learn=learn, shift="learned")]
        bits = tuple(dict.fromkeys(row["bits"] for row in losses))
        figure = new_figure(2.9 * (len(ways) + 1), 3.4, top=HEADER_INCHES)
        first, *others = figure.subplots(1, len(ways) + 1)
        for axes, learn in zip((first, *others), ways, strict=False):
            _draw_accuracies(axes, rows, bits, learn)
        first.set_ylabel("report accuracy, %")
        first.legend(loc="lower left")
        _draw_losses(others[-1], losses, bits)
        add_header(figure, title, f"points: {len({row['seed'] for row in rows})} seeds; bars: means; {CALIBRATED}")
    return figure


def _draw_accuracies(axes: Axes, rows: list[Row], bits: tuple[int, ...], learn: str) -> None:
    control = mean(accuracies(rows, shift="float"))
    axes.axhline(control, color=INK, linewidth=0.8, linestyle=(0, (4, 2)), label="float trained on")
    for number, (shift, colour) in enumerate(SHIFTS.items()):
        for place, width in enumerate(bits):
            found = accuracies(rows, bits=width, shift=shift, learn=learn)
            where = place + 0.24 * (number - 1)
            axes.plot([where] * len(found), found, ".", color=colour, markersize=5, alpha=0.7)
            axes.plot([where - 0.09, where + 0.09], [mean(found)] * 2, color=colour, linewidth=2.4)
        axes.plot([], [], color=colour, linewidth=2.4, label="no shift" if shift == "none" else f"{shift} shift")
    axes.set_xticks(range(len(bits)), [f"W{width}A{width}" for width in bits])
    axes.set_title(LEARN[learn], loc="left", fontsize=8)


def _draw_losses(axes: Axes, losses: list[Row], bits: tuple[int, ...]) -> None:
    for width, marker, colour in zip(bits, "osD", (INK, MUTED, VERMILION), strict=False):
        ours = [row for row in losses if row["bits"] == width]
        levels = sorted({row["levels"] for row in ours})
        values = [mean(row["loss"] for row in ours if row["levels"] == level) for level in levels]
        axes.plot(levels, values, color=colour, marker=marker, markersize=4, label=f"W{width}A{width}")
        chosen = mean(row["calibrated"] for row in ours)
        axes.plot(chosen, np.interp(chosen, levels, values), "o", color=colour, markersize=10, fillstyle="none")
    axes.set_xlabel("levels below zero")
    axes.set_title("search loss before learning", loc="left", fontsize=8)
    axes.legend(loc="upper right")


def loss_table(losses: list[Row], bits: Iterable[int]) -> list[str]:
    """Return a Markdown table of the loss by levels below zero."""
    lines = [
        "| bits | calibration chose, mean | " + " | ".join(map(str, range(MAX_LEVELS + 1))) + " |",
        "|---" * (MAX_LEVELS + 3) + "|",
    ]
    for width in bits:
        ours = [row for row in losses if row["bits"] == width]
        cells = [f"{mean(row['calibrated'] for row in ours):.2f}"]
        for level in range(MAX_LEVELS + 1):
            found = [row["loss"] for row in ours if row["levels"] == level]
            cells.append(f"{mean(found):.4f}" if found else "-")
        lines.append(f"| W{width}A{width} | " + " | ".join(cells) + " |")
    return lines

"""The picture of a fine-tuning: loss and accuracy by epoch."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from haq.pretty import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_epochs(lines: Sequence[Mapping[str, Any]], summary: Mapping[str, Any], *, title: str) -> "Figure":
    """Loss above; below accuracies on train and search split, and the float network's as a dashed line."""
    from matplotlib.ticker import MaxNLocator

    from haq.plots.style import BLUE, HEADER_INCHES, MUTED, VERMILION, add_header, house_style, new_figure

    with house_style():
        figure = new_figure(6.0, 4.2, top=HEADER_INCHES)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.6))
        numbers = [line["epoch"] for line in lines]
        upper.plot(numbers, [line["loss"] for line in lines], color=VERMILION, marker="o", markersize=3)
        upper.set_ylabel("loss")
        for key, label, colour in (("train_accuracy", "train", MUTED), ("search_accuracy", "search split", BLUE)):
            values = [100 * line[key] for line in lines]
            lower.plot(numbers, values, color=colour, marker="o", markersize=3, label=label)
        lower.axhline(100 * summary["search_accuracy_fp32"], color=MUTED, linestyle=(0, (4, 2)), label="float before")
        lower.set_ylabel(f"{summary['metric']['name']}, %")
        lower.set_xlabel("epoch")
        lower.xaxis.set_major_locator(MaxNLocator(integer=True))
        lower.legend(loc="lower right")
        reached = f"report split: {percent(summary['accuracy'], digits=2)}, "
        add_header(figure, title, reached + f"float before {percent(summary['accuracy_fp32'], digits=2)}")
    return figure

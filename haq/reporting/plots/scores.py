"""Panel of scores on the report split, which figures of a search share."""

from collections.abc import Mapping

from matplotlib.axes import Axes

from haq.reporting.plots.style import BLUE, GREEN, INK, SMALL_SIZE, VERMILION
from haq.tasks.metrics import Metric

COLOURS = (INK, BLUE, VERMILION, GREEN)


def draw_scores(axes: Axes, scores: Mapping[str, float], *, metric: Metric, alone: bool = True) -> None:
    """Draw a mark with its number for each score.

    Args:
        axes: Panel that holds nothing else; its axis of scores is left as it is.
        scores: Scores on the report split by name of the network.
        metric: Metric of the task.
        alone: Whether to reserve space for the names below the panel.
    """
    for position, (name, score) in enumerate(scores.items()):
        colour = COLOURS[position % len(COLOURS)]
        axes.scatter(position, score, color=colour, s=20, zorder=3)
        number = f"{100 * score:.1f}" if metric.is_percent else metric.text(score)
        axes.annotate(
            number, (position, score), xytext=(0, 5), textcoords="offset points", ha="center", size=SMALL_SIZE
        )
        label = axes.text(
            position, -0.03, name, transform=axes.get_xaxis_transform(), rotation=90, ha="center", va="top"
        )
        label.set(size=SMALL_SIZE, color=colour, in_layout=alone)
    axes.set_xlim(-0.6, len(scores) - 0.4)
    axes.set_xticks([])
    axes.spines["left"].set_visible(False)
    axes.yaxis.set_label_position("right")
    axes.set_ylabel("report split")

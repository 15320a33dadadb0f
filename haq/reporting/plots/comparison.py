"""Figure of a comparison of search methods: report accuracy over the number of policies tried, by budget."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from haq.formatting import device_title, model_title
from haq.reporting.plots.style import (
    BLUE,
    GREEN,
    HEADER_INCHES,
    INK,
    LEGEND_INCHES,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    YELLOW,
    add_header,
    house_style,
    new_figure,
)
from haq.reporting.study_documents import read_document
from haq.studies.comparison.records import DOCUMENT, ComparisonDocument
from haq.studies.comparison.tables import as_frame
from haq.tasks.metrics import metric_named

PANEL_WIDTH, PANEL_HEIGHT, COLUMNS = 3.4, 2.4, 3
COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, INK, YELLOW, MUTED)
MARKERS = "osD^vPX*<"


def load_comparison(folder: Path) -> ComparisonDocument:
    """Read the results of `haq compare`.

    Args:
        folder: Folder of the comparison.

    Returns:
        The comparison.

    Raises:
        UserError: The folder holds no comparison, or its file is damaged.
    """
    return read_document(folder / DOCUMENT, ComparisonDocument, command="compare")


@house_style()
def plot_comparison(document: ComparisonDocument, *, title: str | None = None) -> Figure:
    """Draw the mean accuracy over seeds of every method by number of evaluations, with a panel for each budget.

    A band shows one standard deviation of the first method.

    Args:
        document: Results of `haq compare`.
        title: Title of the figure; network, device and objective if None.

    Returns:
        The figure.
    """
    frame = as_frame(document)
    budgets, agents = document.budgets, document.agents
    columns = min(COLUMNS, len(budgets))
    rows = -(-len(budgets) // columns)
    top = HEADER_INCHES + LEGEND_INCHES * (1 + (len(agents) > 5))
    figure = new_figure(max(PANEL_WIDTH * columns, 6.0), PANEL_HEIGHT * rows + top, top=top)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, budget in zip(panels, budgets, strict=False):
        _draw(panel, frame[frame["budget"] == budget], document)
        panel.set_title(f"budget {budget}", loc="left", size="medium")
    for panel in panels[len(budgets) :]:
        panel.set_visible(False)
    metric = metric_named(document.records[0].metric)
    panels[0].set_ylabel(f"report {metric.name}{', %' if metric.is_percent else ''}")
    handles = [
        Line2D([], [], color=COLOURS[place % len(COLOURS)], marker=MARKERS[place % len(MARKERS)], label=agent)
        for place, agent in enumerate(agents)
    ]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, 1 - HEADER_INCHES / figure.get_size_inches()[1]),
        ncols=min(len(handles), 5),
    ).set_in_layout(False)
    config = document.config
    named = f"{model_title(config['model'])} on {device_title(config['hardware'])}, {config['objective']}"
    band = f"; band: standard deviation of {agents[0]}" if document.seeds > 1 else ""
    add_header(figure, title or named, f"policies found, mean of {document.seeds} seeds{band}")
    return figure


def _draw(panel: Axes, frame: pd.DataFrame, document: ComparisonDocument) -> None:
    checkpoints, unit = document.checkpoints, metric_named(document.records[0].metric).plotted(1.0)
    for place, agent in enumerate(document.agents):
        of_agent = frame[frame["agent"] == agent]
        pivot = unit * of_agent.pivot_table(index="seed", columns="evaluations", values="accuracy")
        centre = pivot.mean(axis=0).to_numpy()
        spread = np.nan_to_num(pivot.std(axis=0).to_numpy())
        colour = COLOURS[place % len(COLOURS)]
        panel.plot(checkpoints, centre, color=colour, marker=MARKERS[place % len(MARKERS)], markersize=4)
        if not place:  # eight bands would hide each other
            panel.fill_between(checkpoints, centre - spread, centre + spread, color=colour, alpha=0.12, linewidth=0)
    panel.axhline(unit * float(frame["accuracy_fp32"].mean()), color=MUTED, linewidth=0.8, linestyle=":")
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(FixedLocator(checkpoints))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticklabels([str(count) for count in checkpoints])
    panel.set_xlabel("evaluations")

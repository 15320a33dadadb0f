"""Figure of a search: scores of all episodes, the best so far, the policy found, costs and losses."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from haq.formatting import percent
from haq.reporting.plots.curve import Curve, FloatArray, Outcome, Target, learning_curve, learning_subtitle
from haq.reporting.plots.scores import draw_scores
from haq.reporting.plots.style import (
    BLUE,
    FAINT,
    HEADER_INCHES,
    INK,
    LEGEND_INCHES,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    SMALL_SIZE,
    VERMILION,
    add_header,
    add_legend,
    house_style,
    new_figure,
)
from haq.runs.episode import Episode
from haq.tasks.metrics import Metric

WIDTH, SCORE_INCHES, COST_INCHES, THIN_INCHES, AXIS_INCHES = 7.0, 2.3, 1.5, 0.75, 0.5
REPORT_RATIO = 0.06
"""Width of one score on the report split over that of the main panel."""
LEAST_COST_SPAN = 1e-3
"""Least span of the cost axis, in parts of 8 bits; below it the labels of the ticks would be equal."""
MARGIN = 0.09
"""Free part of the score axis at either end, with space for a number above the highest mark."""
WINDOW = 20
"""Episodes in the running mean."""
LOSSES = {"critic_loss": ("critic loss", VERMILION), "actor_loss": ("actor loss", PURPLE)}
POINTS: Mapping[str, dict[str, Any]] = {
    "episode": {"color": SKY, "marker": "o", "s": 12, "linewidths": 0},
    "missed": {"color": MUTED, "marker": "x", "s": 12, "linewidths": 0.8},
    "below the axis": {"color": SKY, "marker": "v", "s": 14, "linewidths": 0, "clip_on": False, "zorder": 3},
}
DASHES = (0, (4, 2))


@house_style()
def plot_learning(
    episodes: Iterable[Episode],
    *,
    title: str = "Search",
    target: Target | None = None,
    outcome: Outcome | None = None,
) -> Figure:
    """Draw the score of every episode and of the best policy so far, and below it output error, cost and losses.

    Args:
        episodes: All episodes of the search, at least one; they are read once.
        title: Title of the figure.
        target: Goal of the search, by which the best policy is chosen.
        outcome: The policy found, the float network's score, and the scores on the report split, which are drawn in a
            separate panel.

    Returns:
        The figure, without panels for values that are not known.

    Raises:
        ValueError: There are no episodes.
    """
    target, outcome = target or Target(), outcome or Outcome()
    curve = learning_curve(episodes, target)
    if not len(curve.scores):
        raise ValueError("there are no episodes to plot")
    panels = _Panels(curve, target, outcome)
    figure, score_axes, rows = panels.figure, panels.scores, iter(panels.below)
    known = [each for each in (*outcome.report.values(), outcome.score_fp32, target.least) if each is not None]
    floor = min([_floor(curve.scores), *known])
    _draw_scores(score_axes, curve, target, floor=floor, score_fp32=outcome.score_fp32)
    if outcome.winner is not None:
        _mark_winner(score_axes, outcome.winner, curve.scores)
    _label_scores(score_axes, metric=outcome.metric, legend_rows=panels.legend_rows)
    if curve.noise is not None:
        _draw_noise(next(rows), curve, curve.noise)
    if curve.cost_ratios is not None:
        cost_axes = next(rows)
        _draw_costs(cost_axes, curve, curve.cost_ratios, target)
        if outcome.winner is not None:
            _mark_winner(cost_axes, outcome.winner, curve.cost_ratios)
    for axes, (name, values) in zip(rows, curve.losses.items(), strict=True):
        _draw_loss(axes, name, values)
    _share_episodes([score_axes, *panels.below], curve)
    if panels.report is not None:
        draw_scores(panels.report, outcome.report, metric=outcome.metric, alone=not panels.below)
        panels.report.tick_params(left=False, labelleft=False)
    add_header(figure, title, learning_subtitle(curve, outcome))
    return figure


class _Panels:
    """Empty panels of the figure: scores, other values of the search below them, and report scores beside them."""

    def __init__(self, curve: Curve, target: Target, outcome: Outcome) -> None:
        has_noise, has_cost = curve.noise is not None, curve.cost_ratios is not None
        heights = [SCORE_INCHES, *[THIN_INCHES] * (len(curve.losses) + has_cost + has_noise)]
        if target.least is not None and has_cost:
            heights[1 + has_noise] = COST_INCHES
        self.legend_rows = 1 if outcome.winner is None and target.least is None else 2
        above = HEADER_INCHES + self.legend_rows * LEGEND_INCHES
        self.figure = new_figure(WIDTH, above + sum(heights) + AXIS_INCHES, top=above)
        ratios = [1.0, REPORT_RATIO * len(outcome.report)] if outcome.report else [1.0]
        grid = self.figure.add_gridspec(len(heights), len(ratios), height_ratios=heights, width_ratios=ratios)
        self.scores = self.figure.add_subplot(grid[0, 0])
        self.below = [self.figure.add_subplot(grid[row, 0], sharex=self.scores) for row in range(1, len(heights))]
        self.report = self.figure.add_subplot(grid[0, 1], sharey=self.scores) if outcome.report else None


def _draw_scores(axes: Axes, curve: Curve, target: Target, *, floor: float, score_fp32: float | None) -> None:
    """Draw scores; those below the floor are marked at the lower end of the axis."""
    episode, shown = np.arange(len(curve.scores)), curve.scores >= floor
    bottom = floor - MARGIN * (max(curve.scores.max(), score_fp32 or floor) - floor)
    groups = (shown & curve.within, shown & ~curve.within, ~shown)
    for chosen, (label, look) in zip(groups, POINTS.items(), strict=True):
        if chosen.any():
            heights = np.where(shown, curve.scores, bottom)[chosen]
            axes.scatter(episode[chosen], heights, label=target.missed if label == "missed" else label, **look)
    if len(episode) >= 2 * WINDOW:
        mean = np.convolve(curve.scores, np.full(WINDOW, 1 / WINDOW), mode="valid")
        axes.plot(episode[WINDOW - 1 :], mean, color=ORANGE, label=f"mean of {WINDOW}")
    best = curve.of_best(curve.scores)
    axes.plot(episode, np.maximum(best, bottom), color=BLUE, drawstyle="steps-post", label="best so far")
    if target.least is not None:
        axes.axhline(target.least, color=INK, linewidth=1, label="least allowed")
    if score_fp32 is not None:
        axes.axhline(score_fp32, color=INK, linewidth=1, linestyle=DASHES, label="float")
    axes.margins(y=MARGIN)
    if not shown.all():
        axes.set_ylim(bottom=bottom)


def _label_scores(axes: Axes, *, metric: Metric, legend_rows: int) -> None:
    axes.set_ylabel(f"{metric.name}, search split")
    if metric.is_percent or not metric.higher_is_better:
        axes.yaxis.set_major_formatter(lambda score, _: metric.tick_text(score))
    add_legend(axes, axes.get_legend_handles_labels()[0], rows=legend_rows)


def _floor(scores: FloatArray) -> float:
    """Return the lowest score on the axis: Tukey's inner fence, so that a few failures do not flatten the rest."""
    low, high = np.quantile(scores, (0.25, 0.75))
    fence = low - 1.5 * (high - low)
    return float(scores[scores >= fence].min())


def _draw_noise(axes: Axes, curve: Curve, noise: FloatArray) -> None:
    """Draw the output error of every policy and of the best so far; outliers are marked at the upper end."""
    episode, within, ceiling = np.arange(len(noise)), curve.within, -_floor(-noise)
    heights = np.minimum(noise, ceiling + MARGIN * (ceiling - noise.min()))
    for chosen, marker in ((noise <= ceiling, "o"), (noise > ceiling, "^")):
        axes.scatter(episode[chosen & within], heights[chosen & within], color=SKY, marker=marker, s=5)
        axes.scatter(
            episode[chosen & ~within], heights[chosen & ~within], color=MUTED, marker="x", s=10, linewidths=0.8
        )
    best = curve.of_best(noise)
    axes.plot(episode, np.where(best > ceiling, np.nan, best), color=BLUE, drawstyle="steps-post")
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.margins(y=0.15)
    axes.set_ylabel("output\nerror")


def _draw_costs(axes: Axes, curve: Curve, ratios: FloatArray, target: Target) -> None:
    """Draw costs beside the budget, or in a min-cost search the least cost so far."""
    episode, within = np.arange(len(ratios)), curve.within
    axes.scatter(episode[within], ratios[within], color=SKY, s=5)
    axes.scatter(episode[~within], ratios[~within], color=MUTED, marker="x", s=10, linewidths=0.8)
    if target.least is not None:
        axes.plot(episode, curve.of_best(ratios), color=BLUE, drawstyle="steps-post")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_minor_locator(NullLocator())
    elif target.budget is not None:
        _draw_budget(axes, target.budget.ratio)
    axes.margins(y=0.3 if target.least is None else 0.1)
    low, high = axes.get_ylim()
    if high - low < LEAST_COST_SPAN:
        axes.set_ylim((low + high - LEAST_COST_SPAN) / 2, (low + high + LEAST_COST_SPAN) / 2)
    axes.set_ylabel("cost over\n8 bits")
    axes.yaxis.set_major_formatter(lambda ratio, _: f"{100 * ratio:.4g} %")


def _draw_budget(axes: Axes, ratio: float) -> None:
    axes.axhline(ratio, color=INK, linewidth=1)
    axes.annotate(
        f"budget {percent(ratio)}",
        (1, ratio),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2),
        textcoords="offset points",
        ha="right",
        size=SMALL_SIZE,
    )


def _mark_winner(axes: Axes, winner: int, values: FloatArray) -> None:
    """Draw a ring around the episode of the policy found."""
    look: dict[str, Any] = {"facecolors": "none", "edgecolors": VERMILION, "linewidths": 1.4, "zorder": 4}
    axes.scatter([winner], [values[winner]], s=42, label="policy found", **look)


def _draw_loss(axes: Axes, name: str, values: FloatArray) -> None:
    label, colour = LOSSES[name]
    axes.plot(np.arange(len(values)), values, color=colour, linewidth=0.9)
    known = values[~np.isnan(values)]
    if (known > 0).all() and known.max() > 10 * known.min():
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel(label.replace(" ", "\n"))


def _share_episodes(panels: Sequence[Axes], curve: Curve) -> None:
    """Share the axis of episodes, and shade the episodes before the agent learned."""
    count = len(curve.scores)
    learned = np.any([~np.isnan(values) for values in curve.losses.values()], axis=0) if curve.losses else np.ones(1)
    warm_up = int(np.argmax(learned))
    for axes in panels:
        if warm_up:
            axes.axvspan(-0.5, warm_up - 0.5, color=FAINT, alpha=0.45, linewidth=0, zorder=0)
        axes.label_outer()
    panels[0].set_xlim(-0.01 * count - 0.5, count - 0.5 + 0.01 * count)
    panels[-1].set_xlabel("episode (shaded: warm-up)" if warm_up else "episode")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    panels[0].figure.align_ylabels(panels)

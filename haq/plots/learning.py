"""The picture of a search: what every episode reached, what was kept, and how the agent learned."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray

from haq.budgets import ResolvedBudget
from haq.plots.style import (
    BLUE,
    FAINT,
    GREEN,
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
from haq.pretty import percent, pretty_score

WIDTH, SCORE_INCHES, THIN_INCHES, AXIS_INCHES = 7.0, 2.3, 0.75, 0.5
TOP_INCHES = HEADER_INCHES + LEGEND_INCHES
REPORT_RATIO = 0.06
"""Width of one score on the report split over that of the main panel."""
LEAST_COST_SPAN = 1e-3
"""Of the axis of costs, in parts of 8 bits: below it the labels of its ticks would be the same."""
MARGIN = 0.09
"""Free part of the score axis at either end; a number above the highest mark fits in."""
ROUNDING = 1e-9
"""Relative; the same sum in another order is not over the budget."""
WINDOW = 20
"""Episodes in the running mean."""
LOSSES = {"critic_loss": ("critic loss", VERMILION), "actor_loss": ("actor loss", PURPLE)}
REPORT_COLOURS = (INK, BLUE, VERMILION, GREEN)
POINTS: Mapping[str, dict[str, Any]] = {
    "episode": {"color": SKY, "marker": "o", "s": 12, "linewidths": 0},
    "over budget": {"color": MUTED, "marker": "x", "s": 12, "linewidths": 0.8},
    "below the axis": {"color": SKY, "marker": "v", "s": 14, "linewidths": 0, "clip_on": False, "zorder": 3},
}
DASHES = (0, (4, 2))

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Episodes = Sequence[Mapping[str, Any]]
"""Lines of a journal; `actor_loss` and `critic_loss` may be None or missing."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A journal as arrays [episode]; NaN is what was not there."""

    scores: FloatArray
    cost_ratios: FloatArray | None
    """Cost over that of 8 bits; None where no budget is known."""
    within: BoolArray
    best: FloatArray
    """Score of the policy kept so far: the highest within the budget, of equal ones the least noise, then cost."""
    losses: Mapping[str, FloatArray]
    noise: FloatArray | None = None
    """On the outputs, where little of it is the reward."""


def learning_curve(episodes: Episodes, *, budget: ResolvedBudget | None = None) -> Curve:
    """What is drawn of a journal; `budget` is the objective's.

    >>> lines = [{"cost": 3.0, "accuracy": 0.9, "score": -1.0}, {"cost": 2.0, "accuracy": 0.8, "score": -2.0}]
    >>> learning_curve(lines).best.tolist()
    [0.9, 0.9]
    """
    costs = np.array([line["cost"] for line in episodes], dtype=np.float64)
    within = np.ones(len(costs), dtype=np.bool_) if budget is None else costs <= budget.budget.limit * (1 + ROUNDING)
    scores = np.array([line["accuracy"] for line in episodes], dtype=np.float64)
    losses = {name: np.array([line.get(name) for line in episodes], dtype=np.float64) for name in LOSSES}
    return Curve(
        scores=scores,
        cost_ratios=None if budget is None else costs / budget.budget.limit * budget.ratio,
        within=within,
        best=np.array(list(_best_scores(episodes, within)), dtype=np.float64),
        losses={name: values for name, values in losses.items() if not np.isnan(values).all()},
        noise=_rewarded_noise(episodes),
    )


@house_style()
def plot_learning(
    episodes: Episodes,
    *,
    title: str = "Search",
    budget: ResolvedBudget | None = None,
    score_fp32: float | None = None,
    report: Mapping[str, float] | None = None,
    metric: str = "accuracy",
) -> Figure:
    """The score of every episode and of the policy kept so far; below it, as far as known, noise, cost and losses.

    `score_fp32` is the float network's on the search split, as the scores of all episodes are. `report` has scores on
    the report split by name and gets a panel of its own. Raises ValueError without episodes.

    >>> figure = plot_learning([{"cost": 1.0, "accuracy": 0.9, "score": -0.1}])
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['accuracy, search split']
    """
    if not episodes:
        raise ValueError("there are no episodes to plot")
    curve = learning_curve(episodes, budget=budget)
    report = report or {}
    thin = len(curve.losses) + (curve.cost_ratios is not None) + (curve.noise is not None)
    heights = [SCORE_INCHES, *[THIN_INCHES] * thin]
    figure = new_figure(WIDTH, TOP_INCHES + sum(heights) + AXIS_INCHES, top=TOP_INCHES)
    ratios = [1.0, REPORT_RATIO * len(report)] if report else [1.0]
    grid = figure.add_gridspec(len(heights), len(ratios), height_ratios=heights, width_ratios=ratios)
    top = figure.add_subplot(grid[0, 0])
    below = [figure.add_subplot(grid[row, 0], sharex=top) for row in range(1, len(heights))]
    known = [*report.values(), *([] if score_fp32 is None else [score_fp32])]
    _draw_scores(top, curve, floor=min([_floor(curve.scores), *known]), score_fp32=score_fp32)
    _label_scores(top, metric=metric)
    remaining = iter(below)
    if curve.noise is not None:
        _draw_noise(next(remaining), curve.noise, within=curve.within)
    if curve.cost_ratios is not None and budget is not None:
        _draw_costs(next(remaining), curve.cost_ratios, within=curve.within, budget_ratio=budget.ratio)
    for axes, (name, values) in zip(remaining, curve.losses.items(), strict=True):
        _draw_loss(axes, name, values)
    _share_episodes([top, *below], curve)
    if report:
        _draw_report(figure.add_subplot(grid[0, 1], sharey=top), report, metric=metric, alone=not below)
    add_header(figure, title, learning_subtitle(curve, metric=metric))
    return figure


def learning_subtitle(curve: Curve, *, metric: str = "accuracy") -> str:
    """How long the search was and what it kept.

    >>> lines = [{"cost": 3.0, "accuracy": 0.90, "score": -0.1}, {"cost": 2.0, "accuracy": 0.95, "score": 0.4}]
    >>> learning_subtitle(learning_curve(lines))
    '2 episodes  ·  kept: accuracy 95.0 % on the search split'
    """
    count = len(curve.best)
    best = float(curve.best[-1])
    kept = f"kept: {metric} {pretty_score(best, metric)} on the search split"
    kept = "no policy within the budget" if np.isnan(best) else kept
    return f"{count} episode{'s' if count > 1 else ''}  ·  {kept}"


def _best_scores(episodes: Episodes, within: BoolArray) -> Iterator[float]:
    merit, score = (-np.inf, 0.0, 0.0), np.nan
    for line, is_within in zip(episodes, within, strict=True):
        candidate = (line["score"], -line.get("noise", 0.0), -line["cost"])
        if is_within and candidate > merit:
            merit, score = candidate, line["accuracy"]
        yield score


def _rewarded_noise(episodes: Episodes) -> FloatArray | None:
    noise, score = (np.array([line.get(name, np.nan) for line in episodes], dtype=float) for name in ("noise", "score"))
    return noise if np.allclose(score, -noise, atol=1e-12) and (noise > 0).all() else None


def _draw_scores(axes: Axes, curve: Curve, *, floor: float, score_fp32: float | None) -> None:
    """Scores below the floor are shown as lying below the axis."""
    episode, shown = np.arange(len(curve.scores)), curve.scores >= floor
    bottom = floor - MARGIN * (max(curve.scores.max(), score_fp32 or floor) - floor)
    groups = (shown & curve.within, shown & ~curve.within, ~shown)
    for chosen, (label, look) in zip(groups, POINTS.items(), strict=True):
        if chosen.any():
            heights = np.where(shown, curve.scores, bottom)[chosen]
            axes.scatter(episode[chosen], heights, label=label, **look)
    if len(episode) >= 2 * WINDOW:
        mean = np.convolve(curve.scores, np.full(WINDOW, 1 / WINDOW), mode="valid")
        axes.plot(episode[WINDOW - 1 :], mean, color=ORANGE, label=f"mean of {WINDOW}")
    axes.plot(episode, curve.best, color=BLUE, drawstyle="steps-post", label="kept so far")
    if score_fp32 is not None:
        axes.axhline(score_fp32, color=INK, linewidth=1, linestyle=DASHES, label="float")
    axes.margins(y=MARGIN)
    if not shown.all():
        axes.set_ylim(bottom=bottom)


def _label_scores(axes: Axes, *, metric: str) -> None:
    axes.set_ylabel(f"{metric}, search split")
    if metric == "accuracy":
        axes.yaxis.set_major_formatter(_as_percent)
    add_legend(axes, axes.get_legend_handles_labels()[0])


def _as_percent(value: float, _position: float) -> str:
    return f"{100 * value:.4g} %"


def _floor(scores: FloatArray) -> float:
    """The lowest score that the axis shows: Tukey's inner fence, so that a few failures do not flatten the rest."""
    low, high = np.quantile(scores, (0.25, 0.75))
    fence = low - 1.5 * (high - low)
    return float(scores[scores >= fence].min())


def _draw_noise(axes: Axes, noise: FloatArray, *, within: BoolArray) -> None:
    """What the reward is made of, and the least of it so far; what is far above the rest lies at the upper end."""
    episode, ceiling = np.arange(len(noise)), -_floor(-noise)
    heights = np.minimum(noise, ceiling + MARGIN * (ceiling - noise.min()))
    for chosen, marker in ((noise <= ceiling, "o"), (noise > ceiling, "^")):
        axes.scatter(episode[chosen & within], heights[chosen & within], color=SKY, marker=marker, s=5)
        axes.scatter(
            episode[chosen & ~within], heights[chosen & ~within], color=MUTED, marker="x", s=10, linewidths=0.8
        )
    least = np.minimum.accumulate(np.where(within, noise, np.inf))
    axes.plot(episode, np.where(least > ceiling, np.nan, least), color=BLUE, drawstyle="steps-post")
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.margins(y=0.15)
    axes.set_ylabel("noise on\noutputs")


def _draw_costs(axes: Axes, ratios: FloatArray, *, within: BoolArray, budget_ratio: float) -> None:
    episode = np.arange(len(ratios))
    axes.scatter(episode[within], ratios[within], color=SKY, s=5)
    axes.scatter(episode[~within], ratios[~within], color=MUTED, marker="x", s=10, linewidths=0.8)
    axes.axhline(budget_ratio, color=INK, linewidth=1)
    axes.annotate(
        f"budget {percent(budget_ratio)}",
        (1, budget_ratio),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2),
        textcoords="offset points",
        ha="right",
        size=SMALL_SIZE,
    )
    axes.margins(y=0.3)
    low, high = axes.get_ylim()
    if high - low < LEAST_COST_SPAN:
        axes.set_ylim((low + high - LEAST_COST_SPAN) / 2, (low + high + LEAST_COST_SPAN) / 2)
    axes.set_ylabel("cost over\n8 bits")
    axes.yaxis.set_major_formatter(_as_percent)


def _draw_loss(axes: Axes, name: str, values: FloatArray) -> None:
    label, colour = LOSSES[name]
    axes.plot(np.arange(len(values)), values, color=colour, linewidth=0.9)
    known = values[~np.isnan(values)]
    if (known > 0).all() and known.max() > 10 * known.min():
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel(label.replace(" ", "\n"))


def _share_episodes(panels: Sequence[Axes], curve: Curve) -> None:
    """One axis of episodes at the bottom, and a shade where the agent did not learn yet."""
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


def _draw_report(axes: Axes, report: Mapping[str, float], *, metric: str, alone: bool) -> None:
    """One mark a score; with panels underneath, the names stand beside those and take no room of their own."""
    for position, (name, score) in enumerate(report.items()):
        colour = REPORT_COLOURS[position % len(REPORT_COLOURS)]
        axes.scatter(position, score, color=colour, s=20, zorder=3)
        number = f"{100 * score:.1f}" if metric == "accuracy" else pretty_score(score, metric)
        axes.annotate(
            number, (position, score), xytext=(0, 5), textcoords="offset points", ha="center", size=SMALL_SIZE
        )
        label = axes.text(
            position, -0.03, name, transform=axes.get_xaxis_transform(), rotation=90, ha="center", va="top"
        )
        label.set(size=SMALL_SIZE, color=colour, in_layout=alone)
    axes.set_xlim(-0.6, len(report) - 0.4)
    axes.set_xticks([])
    axes.tick_params(left=False, labelleft=False)
    axes.spines["left"].set_visible(False)
    axes.yaxis.set_label_position("right")
    axes.set_ylabel("report split")

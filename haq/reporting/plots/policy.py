"""Figure of a policy: the bits of every layer, weights above activations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from haq.budgets import ResolvedBudget
from haq.formatting import device_title, format_cost, model_title, percent
from haq.layer_bits import LayerBits
from haq.policy import Policy
from haq.reporting.plots.layer_axis import SIDES_INCHES, LayerAxis
from haq.reporting.plots.scores import draw_scores
from haq.reporting.plots.style import (
    GLYPH_WIDTH,
    HEADER_INCHES,
    LEGEND_INCHES,
    MARKS,
    MUTED,
    POINTS_PER_INCH,
    SMALL_SIZE,
    TEXT_SIZE,
    VERMILION,
    Mark,
    add_header,
    add_legend,
    house_style,
    new_figure,
)
from haq.tasks.metrics import ACCURACY, Metric
from hardware_sim.cost import OBJECTIVES, Bits

MAX_BITS = 8
PANEL_INCHES = 1.25
SCORES_INCHES = 1.2
"""Width of the panel of scores."""
HANDLE_POINTS = 36.0
"""Width of a legend entry besides its text."""
BAR_WIDTH = 0.76
FLOAT = Mark("left in float", "white", "o")
NUMBERED_SLOT_POINTS = 1.3 * SMALL_SIZE
"""Least width of a layer at which numbers above the bars are readable, in points."""
DASHES = (0, (4, 2))
PARTS = ("weights", "input")
"""Prefixes of the ids of bars, which `NAME-POSITION` identifies in SVG files."""
LABELS = ("weight bits", "activation bits")


@dataclass(frozen=True, slots=True)
class UniformBits:
    """Uniform bits to compare a policy with.

    Attributes:
        w_bits: Bits of the weights.
        a_bits: Bits of the inputs.
        layers: Names of the layers that have them; the others are pinned.
    """

    w_bits: int
    a_bits: int
    layers: frozenset[str]


@house_style()
def plot_policy(
    policy: Policy,
    *,
    title: str | None = None,
    budgets: Sequence[ResolvedBudget] = (),
    metric: Metric = ACCURACY,
    uniform: UniformBits | None = None,
    scores: Mapping[str, float] | None = None,
) -> Figure:
    """Draw weight bits and activation bits of every layer as bars, with cost, budget and accuracy in the header.

    Args:
        policy: Policy to draw.
        title: Title of the figure; network and device if None.
        budgets: Budgets of the search.
        metric: Metric of the task.
        uniform: Uniform bits to draw over the bars.
        scores: Scores on the report split by name of the network, for a panel beside the bars.

    Returns:
        The figure.

    Examples:
        >>> layer = LayerBits(name="conv1", kind="conv", w_bits=4, a_bits=8)
        >>> figure = plot_policy(Policy(model="m", hardware=None, objective=None, layers=(layer,)))
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['weight bits', 'activation bits']
    """
    beside = SCORES_INCHES if scores else 0.0
    axis = LayerAxis.of([layer.name for layer in policy.layers], sides=SIDES_INCHES + beside)
    handles = _legend_handles(policy, uniform)
    rows = ceil(sum(map(_entry_points, handles)) / ((axis.width - SIDES_INCHES) * POINTS_PER_INCH))
    top = HEADER_INCHES + LEGEND_INCHES * rows
    figure = new_figure(axis.width, top + 2 * PANEL_INCHES + axis.inches, top=top)
    ratios = [axis.width - beside, beside] if scores else [1.0]
    grid = figure.add_gridspec(2, len(ratios), width_ratios=ratios)
    upper = figure.add_subplot(grid[0, 0])
    lower = figure.add_subplot(grid[1, 0], sharex=upper)
    for axes, part, label, bits in zip((upper, lower), PARTS, LABELS, (policy.w_bits, policy.a_bits), strict=True):
        _draw_bits(axes, policy.layers, bits, part=part, numbered=axis.slot_points >= NUMBERED_SLOT_POINTS)
        if uniform is not None:
            _draw_uniform(axes, policy.layers, uniform, uniform.w_bits if axes is upper else uniform.a_bits)
        axis.limit(axes)
        axes.set_ylabel(label)
    axis.label(lower)
    upper.tick_params(axis="x", length=0, labelbottom=False)
    if scores:
        _draw_scores(figure.add_subplot(grid[:, 1]), scores, metric)
    add_legend(upper, handles, rows=rows)
    add_header(figure, title or policy_title(policy), policy_subtitle(policy, budgets=budgets, metric=metric))
    return figure


def policy_title(policy: Policy) -> str:
    """Format the names of network and device.

    Args:
        policy: Policy with these names.

    Returns:
        The title.
    """
    model = model_title(policy.model)
    return f"{model} on {device_title(policy.hardware)}" if policy.hardware else model


def policy_subtitle(policy: Policy, *, budgets: Sequence[ResolvedBudget] = (), metric: Metric = ACCURACY) -> str:
    """Format cost, budget and accuracy of a policy in one line.

    Args:
        policy: Policy with its costs and scores.
        budgets: Budgets of the search.
        metric: Metric of the task.

    Returns:
        The line.

    Examples:
        >>> from haq.policy import CostSummary
        >>> layer = LayerBits(name="fc", kind="linear", w_bits=4, a_bits=4)
        >>> policy = Policy(model="m", hardware="d", objective="latency", layers=(layer,), accuracy={"report": 0.95},
        ...                 cost=CostSummary(latency_s=0.0061), baseline_cost=CostSummary(latency_s=0.0124))
        >>> policy_subtitle(policy)
        'latency 6.1 ms, 49.2 % of 8 bits  ·  accuracy 95.0 %'
    """
    limits = {resolved.budget.objective: resolved for resolved in budgets}
    shown = [name for name in OBJECTIVES if name == policy.objective or name in limits]
    parts = []
    for objective in shown:
        cost, baseline = policy.cost.value(objective), policy.baseline_cost.value(objective)
        if cost is None:
            continue
        text = f"{objective} {format_cost(objective, cost)}"
        if objective in limits and len(shown) > 1:  # short, so that several fit
            parts.append(f"{text} of {format_cost(objective, limits[objective].budget.limit)}")
            continue
        text += f", {percent(cost / baseline)} of 8 bits" if baseline else ""
        text += f" (budget {_budget(limits[objective])})" if objective in limits else ""
        parts.append(text)
    return "  ·  ".join([*parts, *_score(policy, metric)])


def _budget(resolved: ResolvedBudget) -> str:
    return f"{format_cost(resolved.budget.objective, resolved.budget.limit)}, {percent(resolved.ratio)}"


def _score(policy: Policy, metric: Metric) -> list[str]:
    """Format the score on the report split, or on the search split if there is no other."""
    for split in ("report", "search"):
        score, fp32 = policy.accuracy.get(split), policy.accuracy.get(f"fp32_{split}")
        if score is not None:
            text = f"{metric.name} {metric.text(score)}"
            return [text if fp32 is None else f"{text} (float {metric.text(fp32)})"]
    return []


def _draw_bits(axes: Axes, layers: Sequence[LayerBits], bits: Sequence[Bits], *, part: str, numbered: bool) -> None:
    """Draw a bar for each layer; layers in float are hollow and of full height."""
    marks = [_mark(layer, width) for layer, width in zip(layers, bits, strict=True)]
    for mark in dict.fromkeys(marks):
        chosen = [index for index, other in enumerate(marks) if other is mark]
        heights = [MAX_BITS if (width := bits[index]) is None else width for index in chosen]
        bars = axes.bar(chosen, heights, width=BAR_WIDTH, label=mark.label, **_look(mark))
        for index, bar in zip(chosen, bars, strict=True):
            bar.set_gid(f"{part}-{index}")
        if numbered:
            numbers = ["fp" if mark is FLOAT else str(height) for height in heights]
            axes.bar_label(bars, numbers, padding=1, size=SMALL_SIZE, color=MUTED)
    axes.set_ylim(0, MAX_BITS + (1.1 if numbered else 0.3))
    axes.set_yticks(range(0, MAX_BITS + 1, 2))


def _draw_uniform(axes: Axes, layers: Sequence[LayerBits], uniform: UniformBits, bits: int) -> None:
    """Draw a line at the uniform bits over every stretch of layers that have them."""
    for has_them, stretch in groupby(range(len(layers)), key=lambda place: layers[place].name in uniform.layers):
        places = list(stretch)
        if has_them:
            axes.hlines(bits, places[0] - 0.5, places[-1] + 0.5, color=VERMILION, linestyle=DASHES, linewidth=1.3)


def _draw_scores(axes: Axes, scores: Mapping[str, float], metric: Metric) -> None:
    draw_scores(axes, scores, metric=metric)
    axes.set_ylabel(f"{metric.name}, report split")
    axes.margins(y=0.15)
    axes.grid(visible=False)
    axes.tick_params(left=False, labelleft=False)


def _mark(layer: LayerBits, bits: Bits) -> Mark:
    return FLOAT if bits is None else MARKS[layer.kind]


def _look(mark: Mark) -> dict[str, Any]:
    if mark is FLOAT:
        return {"facecolor": "white", "edgecolor": MUTED, "linestyle": (0, (2, 1.5)), "linewidth": 0.8}
    return {"facecolor": mark.colour, "edgecolor": "white", "hatch": mark.hatch, "linewidth": 0}


def _legend_handles(policy: Policy, uniform: UniformBits | None) -> list[Artist]:
    """Create a legend entry for each kind of layer in the policy, in the same order for all figures."""
    present = {_mark(layer, bits) for layer in policy.layers for bits in (layer.w_bits, layer.a_bits)}
    marks = [mark for mark in (*MARKS.values(), FLOAT) if mark in present]
    handles: list[Artist] = [Patch(label=mark.label, **_look(mark)) for mark in marks]
    if uniform is not None:
        label = f"best uniform bits: {uniform.w_bits}/{uniform.a_bits}"
        handles.append(Line2D([], [], color=VERMILION, linestyle=DASHES, linewidth=1.3, label=label))
    return handles


def _entry_points(handle: Artist) -> float:
    return HANDLE_POINTS + len(str(handle.get_label())) * GLYPH_WIDTH * TEXT_SIZE

"""Figure of a policy: the bits of every layer, weights above activations."""

from collections.abc import Sequence
from math import ceil
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from haq.budgets import ResolvedBudget
from haq.formatting import device_title, format_cost, model_title, percent
from haq.policy import LayerBits, Policy
from haq.reporting.plots.layer_axis import SIDES_INCHES, LayerAxis
from haq.reporting.plots.style import (
    GLYPH_WIDTH,
    HEADER_INCHES,
    LEGEND_INCHES,
    MARKS,
    MUTED,
    POINTS_PER_INCH,
    SMALL_SIZE,
    TEXT_SIZE,
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
HANDLE_POINTS = 36.0
"""Width of a legend entry besides its text."""
BAR_WIDTH = 0.76
FLOAT = Mark("left in float", "white", "o")
NUMBERED_SLOT_POINTS = 1.3 * SMALL_SIZE
"""Least width of a layer at which numbers above the bars are readable, in points."""
PARTS = ("weights", "input")
"""Prefixes of the ids of bars, which `NAME-POSITION` identifies in SVG files."""
LABELS = ("weight bits", "activation bits")


@house_style()
def plot_policy(
    policy: Policy, *, title: str | None = None, budgets: Sequence[ResolvedBudget] = (), metric: Metric = ACCURACY
) -> Figure:
    """Draw weight bits and activation bits of every layer as bars, with cost, budget and accuracy in the header.

    Args:
        policy: Policy to draw.
        title: Title of the figure; network and device if None.
        budgets: Budgets of the search.
        metric: Metric of the task.

    Returns:
        The figure.

    Examples:
        >>> layer = LayerBits(name="conv1", kind="conv", w_bits=4, a_bits=8)
        >>> figure = plot_policy(Policy(model="m", hardware=None, objective=None, layers=(layer,)))
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['weight bits', 'activation bits']
    """
    axis = LayerAxis.of([layer.name for layer in policy.layers])
    handles = _legend_handles(policy)
    rows = ceil(sum(map(_entry_points, handles)) / ((axis.width - SIDES_INCHES) * POINTS_PER_INCH))
    top = HEADER_INCHES + LEGEND_INCHES * rows
    figure = new_figure(axis.width, top + 2 * PANEL_INCHES + axis.inches, top=top)
    panels = figure.subplots(2, 1, sharex=True)
    for axes, part, label, bits in zip(panels, PARTS, LABELS, (policy.w_bits, policy.a_bits), strict=True):
        _draw_bits(axes, policy.layers, bits, part=part, numbered=axis.slot_points >= NUMBERED_SLOT_POINTS)
        axis.limit(axes)
        axes.set_ylabel(label)
    upper, lower = panels
    axis.label(lower)
    upper.tick_params(axis="x", length=0)
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


def _mark(layer: LayerBits, bits: Bits) -> Mark:
    return FLOAT if bits is None else MARKS[layer.kind]


def _look(mark: Mark) -> dict[str, Any]:
    if mark is FLOAT:
        return {"facecolor": "white", "edgecolor": MUTED, "linestyle": (0, (2, 1.5)), "linewidth": 0.8}
    return {"facecolor": mark.colour, "edgecolor": "white", "hatch": mark.hatch, "linewidth": 0}


def _legend_handles(policy: Policy) -> list[Patch]:
    """Create a legend entry for each kind of layer in the policy, in the same order for all figures."""
    present = {_mark(layer, bits) for layer in policy.layers for bits in (layer.w_bits, layer.a_bits)}
    marks = [mark for mark in (*MARKS.values(), FLOAT) if mark in present]
    return [Patch(label=mark.label, **_look(mark)) for mark in marks]


def _entry_points(handle: Patch) -> float:
    return HANDLE_POINTS + len(str(handle.get_label())) * GLYPH_WIDTH * TEXT_SIZE

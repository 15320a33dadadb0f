"""Tables of a made-up comparison, with figures worked out by hand."""

from collections.abc import Callable
from math import exp

import pytest

from haq.reporting.plots.comparison import plot_comparison
from haq.studies.comparison.records import ComparisonDocument, ComparisonPoint
from haq.studies.comparison.tables import accuracy_interval, as_csv, as_frame, differences, ratios, report
from haq.tables import markdown


def point(agent: str, budget: str, seed: int, evaluations: int) -> ComparisonPoint:
    accuracy = {"ddpg": (0.90, 0.92, 0.94), "random": (0.89, 0.90, 0.91), "tpe": (0.93, 0.93, 0.93)}[agent][seed]
    return ComparisonPoint(
        agent=agent,
        budget=budget,
        seed=seed,
        evaluations=evaluations,
        forward_images=1000 * evaluations,
        cpu_seconds=evaluations / 10,
        accuracy=accuracy,
        report_divergence=1 - accuracy,
        report_noise=(1 - accuracy) ** 2,
        accuracy_fp32=0.95,
        report_images=500,
    )


def document(
    seeds: int = 3,
    *,
    redraw: bool = False,
    found_nothing: Callable[[ComparisonPoint], bool] = lambda _: False,
) -> ComparisonDocument:
    agents, budgets, checkpoints = ("ddpg", "random", "tpe"), ("3bits", "4bits"), (20, 50)
    points = [
        point(agent, budget, seed, evaluations)
        for agent in agents
        for budget in budgets
        for seed in range(seeds)
        for evaluations in checkpoints
    ]
    nothing = dict.fromkeys(("accuracy", "report_divergence", "report_noise"))
    return ComparisonDocument(
        config={"model": "net", "hardware": "device", "objective": "latency"},
        agents=agents,
        budgets=budgets,
        seeds=seeds,
        checkpoints=checkpoints,
        redraw=redraw,
        records=tuple(each.model_copy(update=nothing) if found_nothing(each) else each for each in points),
    )


def test_accuracies_are_means_and_deviations_in_percent() -> None:
    text = markdown(report(document()))
    assert "| 3bits | ddpg | 92.00 ± 2.00 | 92.00 ± 2.00 | 50,000 | 5.0 |" in text
    assert "500 images (float 95.00)" in text


def test_differences_are_paired_by_seed_and_corrected_for_comparisons() -> None:
    found = {
        (budget, rival, count): each for budget, rival, count, each in differences(as_frame(document()), document())
    }
    interval = found["3bits", "random", 20]
    assert interval.mean == pytest.approx(0.02)
    # Student's 98.75 % quantile at two degrees of freedom is 6.205; the deviation of 0.01, 0.02, 0.03 is 0.01.
    assert interval.high - interval.mean == pytest.approx(6.205 * 0.01 / 3**0.5, rel=1e-3)
    assert "| 4bits | tpe | -1.00 [" in markdown(report(document()))


def test_redrawn_images_resolve_the_mean_more_finely() -> None:
    """Equal differences: what is not known is the rounding to one image of 500, less so over three draws."""
    widths = []
    for redraw in (False, True):
        asked = document(redraw=redraw)
        interval = accuracy_interval([0.01, 0.01, 0.01], as_frame(asked), asked)
        widths.append(interval.high - interval.mean)
    assert widths[0] == pytest.approx(6.205 * (1 / 500) / 6**0.5, rel=1e-3)
    assert widths[1] == pytest.approx(widths[0] / 3**0.5)
    text = markdown(report(document(redraw=True)))
    assert "Every seed draws its own images" in text


def test_divergences_are_compared_as_ratios() -> None:
    found = {
        (budget, rival, count): each
        for budget, rival, count, each in ratios(as_frame(document()), document(), "divergence")
    }
    # 0.11, 0.10, 0.09 over 0.10, 0.08, 0.06: the geometric mean is the cube root of 1.1 * 1.25 * 1.5.
    assert exp(found["3bits", "random", 20].mean) == pytest.approx((1.1 * 1.25 * 1.5) ** (1 / 3))
    text = markdown(report(document()))
    assert "| budget | other method | divergence, 20 evaluations |" in text
    assert "| 3bits | random | 1.27 [" in text
    assert "| 3bits | random | 1.62 [" in text  # the square: noise


def test_one_seed_has_accuracies_and_no_intervals() -> None:
    text = markdown(report(document(seeds=1)))
    assert "| 3bits | ddpg | 90.00 | 90.00 |" in text
    assert "Ahead" not in text


def test_a_method_that_found_nothing_has_no_accuracy() -> None:
    nothing = document(seeds=1, found_nothing=lambda _: True)
    assert "| 3bits | ddpg | - | - | 50,000 | 5.0 |" in markdown(report(nothing)).splitlines()


def test_a_cell_without_policies_is_empty_and_its_neighbours_are_not() -> None:
    def found_nothing(point: ComparisonPoint) -> bool:
        is_missing = point.evaluations == 20 or point.seed == 0
        return is_missing and (point.agent, point.budget) == ("random", "3bits")

    question = document(found_nothing=found_nothing)
    text = markdown(report(question)).splitlines()
    assert "| 3bits | random | - | 90.50 ± 0.71 (2 of 3 seeds) | 50,000 | 5.0 |" in text
    difference, _, ratio = (line for line in text if line.startswith("| 3bits | random | - |") and "[" in line)
    assert difference.startswith("| 3bits | random | - | +2.50 [")
    assert difference.endswith(" (2 of 3 seeds) |")
    assert ratio.startswith("| 3bits | random | - | 1.37 [")


def test_csv_has_one_line_per_point() -> None:
    lines = as_csv(document()).splitlines()
    assert lines[0].startswith("agent,budget,seed,evaluations")
    assert len(lines) == 1 + 3 * 2 * 3 * 2


def test_figure_has_one_panel_per_budget() -> None:
    figure = plot_comparison(document())
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["budget 3bits", "budget 4bits"]
    assert all(len(axes.lines) == 4 for axes in figure.axes)

"""Which budget comes next on the way to the least cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from haq.config import search_config
from haq.experiment.preparation import prepare
from haq.searching.min_cost import PATIENCE, PATIENCE_SHARE, RESOLUTION, Bisection, least_ratio, with_budget_ratio
from haq.tasks.classification import ClassificationTask


def test_first_budget_lasts_one_episode() -> None:
    found, failed = (Bisection(0.2) for _ in range(2))
    assert found.observe(1.0, met=True)
    assert failed.observe(1.0, met=False)
    assert found.ratio == failed.ratio == pytest.approx(0.6)
    assert found.stage == failed.stage == 1


def test_budget_falls_at_once_and_rises_when_patience_ends() -> None:
    bisection = Bisection(0.2)
    bisection.observe(1.0, met=True)
    assert bisection.observe(0.5, met=True)
    assert bisection.ratio == pytest.approx(0.35)
    assert [bisection.observe(0.34, met=False) for _ in range(PATIENCE)] == [False] * (PATIENCE - 1) + [True]
    assert bisection.ratio == pytest.approx((0.35 + 0.5) / 2)


def fail(bisection: Bisection) -> None:
    """Try policies that miss the goal until the budget changes."""
    stage = bisection.stage
    while bisection.stage == stage:
        bisection.observe(bisection.ratio, met=False)


def test_patience_grows_with_the_episodes_so_far() -> None:
    bisection, tried = Bisection(0.2), []
    bisection.observe(1.0, met=True)
    for _ in range(12):
        before = bisection.episodes
        fail(bisection)
        tried.append(bisection.episodes - before)
    assert tried[:4] == [PATIENCE] * 4
    assert tried[-1] == (bisection.episodes - tried[-1]) // PATIENCE_SHARE > PATIENCE


def test_closed_range_asks_for_slightly_less_each_time() -> None:
    bisection = Bisection(0.5)
    bisection.observe(1.0, met=True)
    fail(bisection)  # 0.75
    bisection.observe(0.755, met=True)  # a gap of 0.005 of 0.255 is below the resolution
    assert bisection.ratio == pytest.approx(0.755 - RESOLUTION * 0.255)
    fail(bisection)
    assert bisection.ratio == pytest.approx(0.755 - RESOLUTION * 0.255)


def test_search_is_over_at_the_least_possible_cost() -> None:
    bisection = Bisection(0.5)
    assert not bisection.is_over
    bisection.observe(0.6, met=True)
    assert not bisection.is_over
    bisection.observe(0.5, met=True)
    assert bisection.ratio == 0.5
    assert bisection.is_over


def test_with_one_policy_there_is_one_episode() -> None:
    bisection = Bisection(1.0)
    assert not bisection.is_over
    bisection.observe(1.0, met=False)
    assert bisection.is_over


def test_a_policy_below_a_budget_that_failed_opens_the_range_again() -> None:
    bisection = Bisection(0.1)
    bisection.observe(1.0, met=True)
    fail(bisection)  # 0.55
    assert bisection.ratio == pytest.approx(0.775)
    bisection.observe(0.4, met=True)
    assert bisection.ratio == pytest.approx((0.1 + 0.4) / 2)


@given(st.floats(0.05, 0.95), st.floats(0.05, 1.0))
def test_bisection_converges_to_the_least_cost_that_meets_the_goal(least: float, truth: float) -> None:
    """Every policy spends its budget, and meets the goal from some cost on."""
    bisection, best = Bisection(least), 1.0
    truth = max(truth, least)
    for _ in range(300):
        ratio = bisection.ratio
        assert least <= ratio <= 1.0
        met = ratio >= truth
        best = min(best, ratio) if met else best
        bisection.observe(ratio, met=met)
    assert truth <= best <= truth + 2 * RESOLUTION * (best - least) + 1e-12


def test_a_problem_at_another_budget_keeps_the_other_constraints(
    tiny_net: nn.Module, tiny_task: ClassificationTask
) -> None:
    problem = prepare(search_config(budget=("1", "size=0.9")), model=tiny_net, task=tiny_task)
    least = least_ratio(problem)
    assert 0 < least < 1
    tight = with_budget_ratio(problem, least)
    assert [each.budget.objective for each in tight.budgets] == ["latency", "size"]
    assert tight.budgets[0].ratio == least
    assert tight.budgets[1] == problem.budgets[1]
    assert tight.choice.fits(problem.choice.reserve)
    assert not with_budget_ratio(problem, 0.999 * least).choice.fits(problem.choice.reserve)

"""When a policy may be the answer, and which of two is better."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from envs.choices import Choices
from haq.runs.episode import Episode, distinct
from haq.searching.confidence import Pairs, confidence_of_drop
from haq.searching.goals import MAX_FINALISTS, MaximumReward, MinimumCost, goal_of, merit


class Small:
    """A problem of two layers whose bits cost their product; the second constraint counts weight bits."""

    def __init__(self, *limits: float) -> None:
        pairs = np.multiply.outer(np.arange(1, 9.0), np.arange(1, 9.0))
        weights = np.repeat(np.arange(1, 9.0)[:, None], 8, axis=1)
        cost = np.stack([[pairs, pairs], [weights, weights]])
        self.choice = Choices(("a", "b"), (0, 1), np.ones((2, 8, 8), bool), cost, np.array(limits), ("bops", "size"))


def make_episode(*bits: int, accuracy: float = 0.9, noise: float = 0.1, episode: int = 0, **counts: Any) -> Episode:
    reward = 10 * (accuracy - 0.95)
    return Episode(
        episode=episode,
        w_bits=(bits[0], bits[2]),
        a_bits=(bits[1], bits[3]),
        cost=float(bits[0] * bits[1] + bits[2] * bits[3]),
        accuracy=accuracy,
        divergence=0.0,
        noise=noise,
        reward=reward,
        score=reward,
        actor_loss=None,
        critic_loss=None,
        **counts,
    )


def goal(*limits: float) -> MaximumReward:
    problem: Any = Small(*limits)
    return MaximumReward(problem)


def min_cost(drop: float, *limits: float) -> MinimumCost:
    problem: Any = Small(*(limits or (1e9, 1e9)))
    return MinimumCost(problem, drop, accuracy_fp32=0.95)


def test_merit_orders_by_score_then_output_error_then_cost() -> None:
    best = make_episode(4, 4, 4, 4, accuracy=0.91)
    closer, cheaper = make_episode(4, 4, 4, 4, noise=0.05), make_episode(2, 4, 4, 4)
    assert sorted([cheaper, closer, best, make_episode(4, 4, 4, 4)], key=merit) == [
        make_episode(4, 4, 4, 4),
        cheaper,
        closer,
        best,
    ]


def test_within_every_budget_is_met_and_the_worst_excess_counts() -> None:
    assert goal(32, 8).meets(make_episode(4, 4, 4, 4))
    assert not goal(32, 7).meets(make_episode(4, 4, 4, 4))
    assert goal(16, 7).excess(make_episode(4, 4, 4, 4)) == pytest.approx(1.0)
    assert goal(32, 4).excess(make_episode(4, 4, 4, 4)) == pytest.approx(1.0)


def test_finalists_are_the_best_distinct_policies_within_the_budget() -> None:
    episodes = [make_episode(bits, bits, 2, 2, accuracy=0.8 + bits / 100, episode=bits) for bits in range(1, 9)]
    again = episodes[4].model_copy(update={"episode": 9})
    found = goal(7 * 7 + 4, 100).finalists([*episodes, again])
    assert [each.episode for each in found] == [7, 6, 5, 4, 3]
    assert len(found) == MAX_FINALISTS
    assert list(distinct([*episodes, again])) == episodes


def test_a_drop_of_just_the_limit_is_within_it() -> None:
    assert 0.95 - 0.94 > 0.01  # in floating point
    assert min_cost(0.01).meets(make_episode(4, 4, 4, 4, accuracy=0.94))
    assert not min_cost(0.01).meets(make_episode(4, 4, 4, 4, accuracy=0.939))
    assert min_cost(0.05).excess(make_episode(4, 4, 4, 4, accuracy=0.80)) == pytest.approx(0.10)
    assert not min_cost(0.05, 16, 1e9).meets(make_episode(4, 4, 4, 4))


def test_less_cost_is_better_then_more_reward() -> None:
    cheap, dear = make_episode(2, 4, 4, 4), make_episode(4, 4, 4, 4, accuracy=0.94)
    assert min_cost(0.1).merit(cheap) > min_cost(0.1).merit(dear)
    assert min_cost(0.1).merit(make_episode(2, 4, 4, 4, accuracy=0.92)) > min_cost(0.1).merit(cheap)


def test_finalists_of_a_min_cost_search_trade_cost_for_accuracy() -> None:
    episodes = [
        make_episode(4, 4, 4, 4, accuracy=0.93, episode=0),
        make_episode(2, 4, 4, 4, accuracy=0.90, episode=1),
        make_episode(3, 4, 4, 4, accuracy=0.90, episode=2),
        make_episode(2, 2, 2, 2, accuracy=0.50, episode=3),
        make_episode(8, 8, 8, 8, accuracy=0.95, episode=4),
    ]
    assert [each.episode for each in min_cost(0.05).finalists(episodes)] == [1, 0, 4]


def test_on_other_images_the_drop_is_from_their_float_accuracy() -> None:
    policy = make_episode(4, 4, 4, 4, accuracy=0.90)
    assert not min_cost(0.01).meets(policy)
    assert min_cost(0.01).against(0.905, 100).meets(policy)
    assert goal(32, 8).against(0.5, 100).meets(policy)


def test_a_drop_is_to_be_shown_with_the_required_confidence() -> None:
    problem: Any = Small(1e9, 1e9)
    sure = MinimumCost(problem, 0.01, accuracy_fp32=0.95, images=1000, confidence=0.9)
    bits = (4, 4, 4, 4)
    reached = confidence_of_drop(Pairs(3, 1, 1000), 0.01)
    assert sure.reached(make_episode(*bits, lost=3, won=1)) == reached > 0.9
    assert sure.meets(make_episode(*bits, accuracy=0.948, lost=3, won=1))
    assert not sure.meets(make_episode(*bits, accuracy=0.944, lost=7, won=1))
    assert not sure.against(0.95, 500).meets(make_episode(*bits, accuracy=0.946, lost=3, won=1))
    assert not sure.meets(make_episode(*bits, accuracy=0.93, lost=None, won=None))


def test_with_a_confidence_finalists_are_all_that_reach_more_of_it_at_more_cost() -> None:
    problem: Any = Small(1e9, 1e9)
    sure = MinimumCost(problem, 0.02, accuracy_fp32=0.95, images=1000, confidence=0.5)
    lost = {2: 9, 3: 10, 4: 8, 5: 6, 6: 4, 7: 3, 8: 1}
    episodes = [
        make_episode(bits, bits, 2, 2, accuracy=0.95 - count / 1000, episode=bits, lost=count, won=0)
        for bits, count in lost.items()
    ]
    assert [each.episode for each in sure.finalists(episodes)] == [2, 4, 5, 6, 7, 8]


def test_goal_follows_from_the_settings() -> None:
    config = SimpleNamespace(max_accuracy_drop=None, confidence=None)
    problem: Any = SimpleNamespace(config=config, task=SimpleNamespace(size={"search": 250}.get))
    assert goal_of(problem, 0.95) == MaximumReward(problem)
    config.max_accuracy_drop, config.confidence = 0.5, 0.9
    assert goal_of(problem, 0.95) == MinimumCost(problem, 0.005, accuracy_fp32=0.95, images=250, confidence=0.9)


def test_failed_evaluations_meet_no_goal() -> None:
    failed = make_episode(4, 4, 4, 4, accuracy=0.95, failure="out of memory")
    assert not goal(32, 8).meets(failed)
    assert not min_cost(0.1).meets(failed)

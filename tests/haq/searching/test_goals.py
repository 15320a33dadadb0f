"""When a policy may be the answer, and which of two is better."""

from typing import Any

import numpy as np
import pytest

from envs.choices import Choices
from haq.searching.confidence import Pairs, confidence_of_drop
from haq.searching.goals import FINALISTS, LeastCost, Line, MostReward, distinct, merit


class Small:
    """A problem of two layers whose bits cost their product; the second constraint counts weight bits."""

    def __init__(self, *limits: float) -> None:
        pairs = np.multiply.outer(np.arange(1, 9.0), np.arange(1, 9.0))
        weights = np.repeat(np.arange(1, 9.0)[:, None], 8, axis=1)
        cost = np.stack([[pairs, pairs], [weights, weights]])
        self.choice = Choices(("a", "b"), (0, 1), np.ones((2, 8, 8), bool), cost, np.array(limits), ("bops", "size"))


def line(*bits: int, accuracy: float = 0.9, noise: float = 0.1, episode: int = 0) -> Line:
    w_bits, a_bits = [bits[0], bits[2]], [bits[1], bits[3]]
    return {
        "episode": episode,
        "w_bits": w_bits,
        "a_bits": a_bits,
        "cost": float(bits[0] * bits[1] + bits[2] * bits[3]),
        "accuracy": accuracy,
        "noise": noise,
        "score": 10 * (accuracy - 0.95),
    }


def goal(*limits: float) -> MostReward:
    problem: Any = Small(*limits)
    return MostReward(problem)


def dual(drop: float, *limits: float) -> LeastCost:
    problem: Any = Small(*(limits or (1e9, 1e9)))
    return LeastCost(problem, drop, accuracy_fp32=0.95)


def test_reward_counts_before_noise_before_cost() -> None:
    best = line(4, 4, 4, 4, accuracy=0.91)
    closer, cheaper = line(4, 4, 4, 4, noise=0.05), line(2, 4, 4, 4)
    assert sorted([cheaper, closer, best, line(4, 4, 4, 4)], key=merit) == [line(4, 4, 4, 4), cheaper, closer, best]


def test_within_every_budget_is_met_and_the_worst_excess_counts() -> None:
    assert goal(32, 8).meets(line(4, 4, 4, 4))
    assert not goal(32, 7).meets(line(4, 4, 4, 4))
    assert goal(16, 7).excess(line(4, 4, 4, 4)) == pytest.approx(1.0)
    assert goal(32, 4).excess(line(4, 4, 4, 4)) == pytest.approx(1.0)


def test_finalists_are_the_best_distinct_policies_within_the_budget() -> None:
    lines = [line(bits, bits, 2, 2, accuracy=0.8 + bits / 100, episode=bits) for bits in range(1, 9)]
    again = {**lines[4], "episode": 9}
    found = goal(7 * 7 + 4, 100).finalists([*lines, again])
    assert [each["episode"] for each in found] == [7, 6, 5, 4, 3]
    assert len(found) == FINALISTS
    assert list(distinct([*lines, again])) == lines


def test_a_drop_of_just_the_limit_is_within_it() -> None:
    assert 0.95 - 0.94 > 0.01  # in floating point
    assert dual(0.01).meets(line(4, 4, 4, 4, accuracy=0.94))
    assert not dual(0.01).meets(line(4, 4, 4, 4, accuracy=0.939))
    assert dual(0.05).excess(line(4, 4, 4, 4, accuracy=0.80)) == pytest.approx(0.10)
    assert not dual(0.05, 16, 1e9).meets(line(4, 4, 4, 4))


def test_less_cost_is_better_then_more_reward() -> None:
    cheap, dear = line(2, 4, 4, 4), line(4, 4, 4, 4, accuracy=0.94)
    assert dual(0.1).merit(cheap) > dual(0.1).merit(dear)
    assert dual(0.1).merit(line(2, 4, 4, 4, accuracy=0.92)) > dual(0.1).merit(cheap)


def test_finalists_of_the_dual_trade_cost_for_accuracy() -> None:
    lines = [
        line(4, 4, 4, 4, accuracy=0.93, episode=0),
        line(2, 4, 4, 4, accuracy=0.90, episode=1),
        line(3, 4, 4, 4, accuracy=0.90, episode=2),
        line(2, 2, 2, 2, accuracy=0.50, episode=3),
        line(8, 8, 8, 8, accuracy=0.95, episode=4),
    ]
    assert [each["episode"] for each in dual(0.05).finalists(lines)] == [1, 0, 4]


def test_on_other_images_the_drop_is_from_their_float_accuracy() -> None:
    policy = line(4, 4, 4, 4, accuracy=0.90)
    assert not dual(0.01).meets(policy)
    assert dual(0.01).against(0.905, 100).meets(policy)
    assert goal(32, 8).against(0.5, 100).meets(policy)


def test_a_drop_is_to_be_shown_with_the_required_confidence() -> None:
    problem: Any = Small(1e9, 1e9)
    sure = LeastCost(problem, 0.01, accuracy_fp32=0.95, images=1000, confidence=0.9)
    bits = (4, 4, 4, 4)
    reached = confidence_of_drop(Pairs(3, 1, 1000), 0.01)
    assert sure.reached({**line(*bits), "lost": 3, "won": 1}) == reached > 0.9
    assert sure.meets({**line(*bits, accuracy=0.948), "lost": 3, "won": 1})
    assert not sure.meets({**line(*bits, accuracy=0.944), "lost": 7, "won": 1})
    assert not sure.against(0.95, 500).meets({**line(*bits, accuracy=0.946), "lost": 3, "won": 1})
    assert not sure.meets({**line(*bits, accuracy=0.93), "lost": None, "won": None})


def test_with_a_confidence_finalists_are_all_that_reach_more_of_it_at_more_cost() -> None:
    problem: Any = Small(1e9, 1e9)
    sure = LeastCost(problem, 0.02, accuracy_fp32=0.95, images=1000, confidence=0.5)
    lost = {2: 9, 3: 10, 4: 8, 5: 6, 6: 4, 7: 3, 8: 1}
    lines = [
        {**line(bits, bits, 2, 2, accuracy=0.95 - count / 1000, episode=bits), "lost": count, "won": 0}
        for bits, count in lost.items()
    ]
    assert [each["episode"] for each in sure.finalists(lines)] == [2, 4, 5, 6, 7, 8]

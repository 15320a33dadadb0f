"""The best episode of a search, or the one that misses its goal by least, and the policy file of it."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from envs.choices import Choices
from haq.policy import load_policy
from haq.runs.episode import Episode
from haq.runs.run_folder import RunFolder
from haq.searching.best_episodes import BestEpisodes
from haq.searching.goals import MaximumReward
from hardware_sim.layer import Layer
from hardware_sim.proxy import proxy_table

LAYERS = (Layer(name="a", kind="linear", c_in=4, c_out=2), Layer(name="b", kind="linear", c_in=2, c_out=8))
TABLE = proxy_table(LAYERS)
LIMIT = 8 * 4 * 4 + 16 * 4 * 4
"""BOPs of 4 x 4 bits: the layers have 8 and 16 MACs."""


def make_problem() -> Any:
    cost = TABLE.bops[None, :, :8, :8]
    choice = Choices(("a", "b"), (0, 1), np.ones((2, 8, 8), bool), cost, np.array([float(LIMIT)]), ("bops",))
    priced = SimpleNamespace(
        name="net", weights="0" * 32, layers=LAYERS, table=TABLE, baseline=TABLE.policy_cost((8, 8), (8, 8))
    )
    return SimpleNamespace(choice=choice, priced=priced, config=SimpleNamespace(hardware="desk", objective="bops"))


def make_episode(bits: int, *, accuracy: float = 0.9, failure: str | None = None) -> Episode:
    return Episode(
        episode=0,
        w_bits=(bits, 4),
        a_bits=(bits, 4),
        cost=8.0 * bits * bits + 16 * 16,
        accuracy=accuracy,
        divergence=0.0,
        noise=0.1,
        reward=accuracy,
        score=accuracy,
        actor_loss=None,
        critic_loss=None,
        failure=failure,
    )


@pytest.fixture
def kept() -> BestEpisodes:
    problem = make_problem()
    return BestEpisodes(problem, MaximumReward(problem), 0.95)


def test_only_a_strictly_better_episode_replaces_the_best(kept: BestEpisodes) -> None:
    first, equal, worse, better = (make_episode(4, accuracy=each) for each in (0.9, 0.9, 0.8, 0.91))
    assert [kept.add(each) for each in (first, equal, worse)] == [True, False, False]
    assert kept.best is first
    assert kept.add(better)
    assert kept.best is better
    assert kept.nearest_miss is None


def test_nearest_miss_exceeds_the_budget_by_least_until_one_meets_it(kept: BestEpisodes) -> None:
    far, near, equal, nearer = make_episode(7), make_episode(6, accuracy=0.5), make_episode(6), make_episode(5)
    assert [kept.add(each) for each in (far, near, equal, far)] == [True, True, False, False]
    assert kept.nearest_miss is near
    assert kept.best is None
    assert kept.add(make_episode(4))
    assert not kept.add(nearer)
    assert kept.nearest_miss is near


def test_failed_evaluations_are_neither_best_nor_nearest(kept: BestEpisodes) -> None:
    assert not kept.add(make_episode(4, failure="out of memory"))
    assert not kept.add(make_episode(6, failure="out of memory"))
    assert (kept.best, kept.nearest_miss) == (None, None)


def test_written_policies_have_the_bits_costs_and_accuracies_of_their_episodes(
    kept: BestEpisodes, tmp_path: Any
) -> None:
    run = RunFolder(tmp_path)
    kept.write(run)
    assert list(tmp_path.iterdir()) == []
    kept.add(make_episode(6))
    kept.write(run)
    kept.add(make_episode(2, accuracy=0.7))
    kept.write(run)
    best, missed = load_policy(tmp_path / "policy.json"), load_policy(tmp_path / "nearest_miss.json")
    assert [(each.name, each.kind, each.w_bits, each.a_bits) for each in best.layers] == [
        ("a", "linear", 2, 2),
        ("b", "linear", 4, 4),
    ]
    assert [each.w_bits for each in missed.layers] == [6, 4]
    assert (best.model, best.weights, best.hardware, best.objective) == ("net", "0" * 32, "desk", "bops")
    assert best.accuracy == {"search": 0.7, "fp32_search": 0.95}
    assert best.cost is not None
    assert best.baseline_cost is not None
    # 8 weights of 2 bits and 16 of 4; 24 weights of 8 bits.
    assert (best.cost.bops, best.cost.weight_bytes) == (8 * 4 + 16 * 16, 2 + 8)
    assert (best.baseline_cost.bops, best.baseline_cost.weight_bytes) == (24 * 64, 24)

from itertools import islice

import numpy as np
import pytest

from agents import Evolution
from agents.evolution import initial_policies
from agents.greedy import greedy_policy
from agents.uniform import uniform_policies


def best_of(policies, score) -> float:
    return max(score(bits) for bits in policies)


def test_evolution_beats_random_policies(make_space):
    """Additive and pairwise terms on 12 decisions: at equal cost better than random policies on every seed."""
    source = np.random.default_rng(7)
    sizes = tuple(source.uniform(0.5, 4, 12))
    weight, pairwise = source.uniform(0.1, 2, (12, 2)), source.uniform(0, 0.2, (12, 12))
    space = make_space(sizes, widths=(2, 3, 4, 5, 6, 7, 8), ratios=(0.3,))

    def score(bits: np.ndarray) -> float:
        noise = (weight * 0.4**bits).sum(axis=1)
        return -float(noise.sum() + np.sqrt(noise) @ pairwise @ np.sqrt(noise))

    for seed in range(3):
        proposer, generator = Evolution(space, seed=seed), np.random.default_rng(seed)
        scores = []
        for _ in range(100):
            bits = proposer.propose()
            scores.append(score(bits))
            proposer.tell(bits, scores[-1])
        assert max(scores) > max(scores[:10])
        assert max(scores) > best_of((space.sample(generator) for _ in range(100)), score)


def test_first_proposal_is_greedy_policy(make_space):
    space = make_space()
    assert (Evolution(space).propose() == greedy_policy(space)).all()


def test_children_descend_from_told_policies(make_space):
    """With a first population of one, foreign policies become parents."""
    space = make_space((1.0,) * 8, ratios=(1.0, 0.6))
    foreign = space.project(np.repeat([[5, 5], [2, 5]], 4, axis=0))
    proposer = Evolution(space, population=1, parents=1, mutation=0.01, seed=0)
    proposer.tell(proposer.propose(), 0.0)
    proposer.tell(foreign, 1.0)
    for _ in range(5):
        assert (proposer.propose() != foreign).any(axis=1).sum() <= 3


@pytest.mark.parametrize("bad", [{"population": 0}, {"parents": 0}, {"mutation": 0.0}, {"mutation": 1.5}])
def test_invalid_settings_raise(make_space, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Evolution(make_space(), **bad)


def test_first_population_is_greedy_then_uniform(make_space):
    space = make_space()
    expected = [greedy_policy(space), *(space.project(bits) for bits in islice(uniform_policies(space), 3))]
    assert [bits.tolist() for bits in initial_policies(space, uniform=3)] == [bits.tolist() for bits in expected]


def test_mutation_moves_to_a_nearby_pair(make_space):
    space = make_space((1.0,) * 6, widths=(2, 3, 4, 5, 6, 7, 8))
    parent = np.full((6, 2), 5)
    rare, always = (Evolution(space, mutation=each, seed=1) for each in (1e-9, 1.0))
    moves = set()
    for _ in range(60):
        assert (np.abs(rare._mutate(parent) - parent).sum(axis=1) > 0).sum() == 1
        moved = np.abs(always._mutate(parent) - parent).sum(axis=1)
        assert (moved > 0).all()
        moves |= set(moved.tolist())
    assert moves == {1, 2}
    assert (parent == 5).all()


def test_mutation_takes_the_nearest_pair_where_all_are_far(make_space):
    space = make_space((1.0,) * 3, widths=(2, 8))
    child = Evolution(space, mutation=1.0)._mutate(np.full((3, 2), 2))
    assert (np.abs(child - 2).sum(axis=1) == 6).all()


def test_decisions_without_another_pair_do_not_mutate(make_space):
    space = make_space((1.0, 1.0), pinned=True, ratios=(0.9,))
    parent = np.array([[3, 3], [8, 8]])
    child = Evolution(space, mutation=1.0)._mutate(parent)
    assert child[1].tolist() == [8, 8]
    assert child[0].tolist() != [3, 3]


def test_crossover_takes_each_decision_whole_from_one_of_two_parents(make_space):
    space = make_space((1.0,) * 8)
    parents = [np.tile([width, 7 - width], (8, 1)) for width in (2, 5)]
    evolution = Evolution(space, seed=2)
    children = [evolution._crossover(parents) for _ in range(20)]
    assert all(pair in ([2, 5], [5, 2]) for child in children for pair in child.tolist())
    shares = np.mean([child[:, 0] == 2 for child in children])
    # 160 decisions, half from each parent: 4 standard deviations are 0.16.
    assert shares == pytest.approx(0.5, abs=0.16)

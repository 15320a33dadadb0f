import numpy as np
import pytest

from agents import Evolution
from agents.greedy import greedy_policy


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

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from agents import ILP


def by_brute_force(space) -> list[float]:
    """The expected losses of all policies that fit, least first."""
    every = product(*(space.pairs(decision) for decision in range(len(space.names))))
    policies = (np.array(pairs) for pairs in every)
    return sorted(space.expected_loss(bits) for bits in policies if space.fits(bits))


@pytest.mark.parametrize("ratios", [(0.5,), (0.5, 0.6, 0.7)])
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_proposals_are_the_best_in_order(make_space, ratios, seed):
    prior = None if seed is None else np.random.default_rng(seed).random((3, 8, 8))
    space = make_space((3.0, 1.3, 2.1), widths=(2, 3, 5), ratios=ratios, prior=prior)
    proposer = ILP(space)
    losses = [space.expected_loss(proposer.propose()) for _ in range(12)]
    assert losses == pytest.approx(by_brute_force(space)[:12], abs=1e-12)


def test_small_differences_of_large_losses_count(make_space):
    prior = np.random.default_rng(0).random((3, 8, 8)) * 1e-6 + np.arange(8)[::-1, None] * 1e-3
    space = make_space((3.0, 1.3, 2.1), widths=(2, 3, 5), prior=prior)
    proposer = ILP(space)
    losses = [space.expected_loss(proposer.propose()) for _ in range(6)]
    assert losses == pytest.approx(by_brute_force(space)[:6], abs=1e-12)


def test_the_solvers_tolerance_is_not_spent(make_space):
    """The budget falls short of the best policy's cost by less than the solver can see."""
    space = make_space((3.0, 1.3, 2.1), widths=(2, 3, 5))
    best = ILP(space).propose()
    tight = replace(space, budget=space.total(best) * (1 - 1e-8))
    bits = ILP(tight).propose()
    assert tight.fits(bits)
    assert tight.expected_loss(bits) == pytest.approx(by_brute_force(tight)[0], abs=1e-12)


def test_all_policies_then_the_best_again(make_space):
    space = make_space((1.0, 2.0), widths=(2, 3), ratios=(0.6,))
    count = len(by_brute_force(space))
    proposer, told = ILP(space), {}
    for turn in range(count):
        bits = proposer.propose()
        told[bits.tobytes()] = turn % 3
        proposer.tell(bits, turn % 3)
    assert len(told) == count
    assert told[proposer.propose().tobytes()] == 2


def test_decisions_that_make_no_difference(make_space):
    space = make_space((1.0, 2.0), widths=(2, 3), prior=np.zeros((2, 8, 8)))
    assert space.fits(ILP(space).propose())

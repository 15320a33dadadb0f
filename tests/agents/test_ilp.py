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
def test_proposals_are_in_order_of_expected_loss(make_space, ratios, seed):
    prior = None if seed is None else np.random.default_rng(seed).random((3, 8, 8))
    space = make_space((3.0, 1.3, 2.1), widths=(2, 3, 5), ratios=ratios, prior=prior)
    proposer = ILP(space)
    losses = [space.expected_loss(proposer.propose()) for _ in range(12)]
    assert losses == pytest.approx(by_brute_force(space)[:12], abs=1e-12)


def test_small_differences_of_large_losses_are_resolved(make_space):
    prior = np.random.default_rng(0).random((3, 8, 8)) * 1e-6 + np.arange(8)[::-1, None] * 1e-3
    space = make_space((3.0, 1.3, 2.1), widths=(2, 3, 5), prior=prior)
    proposer = ILP(space)
    losses = [space.expected_loss(proposer.propose()) for _ in range(6)]
    assert losses == pytest.approx(by_brute_force(space)[:6], abs=1e-12)


def test_proposals_do_not_exceed_budget_within_solver_tolerance(make_space):
    """The budget is below the best policy's cost by less than the solver's tolerance."""
    space = make_space((3.0, 1.3, 2.1), widths=(2, 3, 5))
    best = ILP(space).propose()
    tight = replace(space, constraints=replace(space.constraints, limits=space.total(best) * (1 - 1e-8)))
    bits = ILP(tight).propose()
    assert tight.fits(bits)
    assert tight.expected_loss(bits) == pytest.approx(by_brute_force(tight)[0], abs=1e-12)


def test_best_policy_is_repeated_after_all_policies(make_space):
    space = make_space((1.0, 2.0), widths=(2, 3), ratios=(0.6,))
    count = len(by_brute_force(space))
    proposer, scores = ILP(space), {}
    for turn in range(count):
        bits = proposer.propose()
        scores[bits.tobytes()] = turn % 3
        proposer.tell(bits, turn % 3)
    assert len(scores) == count
    assert scores[proposer.propose().tobytes()] == 2


def test_zero_prior_gives_legal_proposals(make_space):
    space = make_space((1.0, 2.0), widths=(2, 3), prior=np.zeros((2, 8, 8)))
    assert space.fits(ILP(space).propose())

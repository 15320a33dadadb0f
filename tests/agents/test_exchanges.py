"""Exchanges around a policy, compared to all policies of small spaces."""

from itertools import product

import numpy as np
import pytest

from agents.exchanges import exchanges
from agents.greedy import greedy_policy


@pytest.mark.parametrize("ratios", [(1.0, 0.6), (0.7, 0.55), (0.55, 0.7)])
def test_exchanges_are_all_policies_near_the_centre_in_order_of_expected_loss(make_space, ratios):
    space = make_space((3.0, 1.0, 2.0), ratios=ratios, prior=np.random.default_rng(0).random((3, 8, 8)))
    centre = greedy_policy(space)
    every = (np.array(pairs) for pairs in product(*(space.pairs(decision) for decision in range(3))))
    near = {}
    for bits in every:
        moved = np.abs(bits - centre).sum(axis=1)
        if 1 <= (moved > 0).sum() <= 2 and moved.max() <= 2 and space.fits(bits):
            near[bits.tobytes()] = space.expected_loss(bits)
    found = list(exchanges(space, centre, max_change=2))
    assert {bits.tobytes() for bits in found} == set(near)
    losses = [space.expected_loss(bits) for bits in found]
    assert losses == pytest.approx(sorted(near.values()))


def test_exchanges_may_meet_a_budget_exactly(make_space):
    """Two decisions of 5 bits of weights in all: 3 and 2 become 2 and 3."""
    space = make_space((1.0, 1.0), widths=(2, 3), ratios=(1.0, 5 / 6))
    found = [
        bits[:, 0].tolist()
        for bits in exchanges(space, np.array([[3, 3], [2, 3]]), max_change=2)
        if (bits[:, 1] == 3).all()
    ]
    assert sorted(found) == [[2, 2], [2, 3]]


def test_equal_losses_come_in_the_order_of_the_decisions(make_space):
    """One more bit of weights in either decision, 4 of activations: the loss of both moves is the same."""
    space = make_space((1.0, 1.0), widths=(2, 3), ratios=(1.0,), prior=np.zeros((2, 8, 8)))
    found = [bits.ravel().tolist() for bits in exchanges(space, np.full((2, 2), 2), max_change=1)]
    assert found == [
        *([2, 3, 2, 2], [2, 3, 2, 3], [2, 3, 3, 2]),
        *([3, 2, 2, 2], [3, 2, 2, 3], [3, 2, 3, 2]),
        *([2, 2, 2, 3], [2, 2, 3, 2]),
    ]

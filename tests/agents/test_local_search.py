"""Knapsack solutions of small spaces, compared to all of their policies."""

from itertools import product

import numpy as np
import pytest

from agents.local_search import Knapsack
from agents.loss_terms import pair_losses


def summed(losses: np.ndarray, bits: np.ndarray) -> float:
    return float(losses[np.arange(len(bits)), bits[:, 0] - 1, bits[:, 1] - 1].sum())


def random_losses(count: int, decisions: int, seed: int = 0) -> np.ndarray:
    level = np.random.default_rng(seed).normal(0, 1, (count, decisions, 2, 1))
    return pair_losses(level - np.log(4) * np.arange(1, 9))


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.8])
def test_solutions_are_close_to_optimum(make_space, ratio):
    space = make_space((3.0, 1.0, 2.0), ratios=(ratio,))
    every = [np.array(pairs) for pairs in product(*(space.pairs(decision) for decision in range(3)))]
    legal = [bits for bits in every if space.fits(bits)]
    losses = random_losses(12, 3)
    solved = Knapsack(space).solve(losses)
    assert all(space.fits(bits) for bits in solved)
    best = [min(summed(problem, bits) for bits in legal) for problem in losses]
    ratios = [summed(problem, bits) / least for problem, bits, least in zip(losses, solved, best, strict=True)]
    assert max(ratios) < 1.25
    assert np.mean(ratios) < 1.05


def test_large_budget_gives_least_loss_per_decision(make_space):
    space = make_space(ratios=(1.0,))
    assert (Knapsack(space).solve(random_losses(2, 4)) == 5).all()


def test_solutions_respect_several_budgets(make_space):
    space = make_space(ratios=(0.5, 0.6, 0.8))
    assert all(space.fits(bits) for bits in Knapsack(space).solve(random_losses(6, 4)))


def test_neighbours_are_legal_distinct_and_sorted(make_space):
    space = make_space()
    (losses,) = random_losses(1, 4)
    start = space.sample(np.random.default_rng(1))
    near = Knapsack(space).neighbours(losses, start, 30)
    assert 0 < len(near) <= 30
    assert all(space.fits(bits) for bits in near)
    assert all(1 <= (bits != start).any(axis=1).sum() <= 2 for bits in near)
    totals = [summed(losses, bits) for bits in near]
    assert totals == sorted(totals)


def test_single_pair_has_no_neighbours(make_space):
    space = make_space((2.0,), widths=(3,), ratios=(1.0,))
    assert len(Knapsack(space).neighbours(random_losses(1, 1)[0], np.array([[3, 3]]), 5)) == 0

"""Knapsack solutions of small spaces, compared to all of their policies."""

from itertools import product

import numpy as np
import pytest

from agents.knapsack import Knapsack, _positions_of_least
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


@pytest.mark.parametrize("ratios", [(0.49,), (0.49, 0.69)])  # no policy meets these exactly
def test_neighbours_are_all_moves_and_exchanges_that_fit(make_space, ratios):
    space = make_space((3.0, 1.0, 2.0), ratios=ratios)
    (losses,) = random_losses(1, 3)
    start = space.project(np.full((3, 2), 3))

    def changes(bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Loss and costs that each decision of a policy adds to those of the start."""
        rows, now, was = np.arange(3), tuple(bits.T - 1), tuple(start.T - 1)
        return losses[rows, *now] - losses[rows, *was], space.cost[:, rows, *now] - space.cost[:, rows, *was]

    expected = set()
    for bits in (np.array(pairs) for pairs in product(*(space.pairs(decision) for decision in range(3)))):
        moved = np.flatnonzero((bits != start).any(axis=1))
        if not 1 <= len(moved) <= 2 or not space.fits(bits):
            continue
        loss, cost = changes(bits)
        is_better, is_cheaper = loss < 0, (cost < 0).any(axis=0)
        first, last = moved[0], moved[-1]
        if len(moved) == 1 or (is_better[first] and is_cheaper[last]) or (is_better[last] and is_cheaper[first]):
            expected.add(bits.tobytes())
    assert {bits.tobytes() for bits in Knapsack(space).neighbours(losses, start, 10**6)} == expected


def test_no_exchange_improves_a_solution(make_space):
    space = make_space((3.0, 1.0, 2.0, 1.5), ratios=(0.45,))
    losses, solver = random_losses(4, 4), Knapsack(space)
    for problem, bits in zip(losses, solver.solve(losses), strict=True):
        best = solver.neighbours(problem, bits, 1)[0]
        assert summed(problem, best) >= summed(problem, bits)


def test_least_values_come_first_and_equal_ones_in_their_order():
    values = np.array([3.0, 1.0, 2.0, 1.0, 2.0])
    assert _positions_of_least(values, 3).tolist() == [1, 3, 2]
    assert _positions_of_least(values, 9).tolist() == [1, 3, 2, 4, 0]
    assert _positions_of_least(values, 0).tolist() == []

"""Price curves: the least loss that every budget leaves, compared with all policies."""

from itertools import product

import numpy as np

from agents.loss_terms import pair_losses
from agents.price_curves import PRICES, PriceCurves

WIDTHS = np.arange(1, 9)


def problem(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    theta = rng.normal(0, 1, (2, count, 2, 1)) - 1.2 * WIDTHS
    load = rng.uniform(1, 4, (count, 1, 1)) * WIDTHS[:, None] * WIDTHS
    allowed = np.zeros(load.shape, dtype=np.bool_)
    allowed[:, 1:4, 1:4] = True
    return theta, load / load[:, 3, 3].sum(), allowed


def best_loss(theta: np.ndarray, load: np.ndarray, allowed: np.ndarray, limit: float) -> float:
    losses = np.exp(theta - theta.max())
    pairs = [[(w, a) for w, a in np.argwhere(allowed[d])] for d in range(len(load))]
    found = [
        sum(losses[d, 0, w] + losses[d, 1, a] for d, (w, a) in enumerate(policy))
        for policy in product(*pairs)
        if sum(load[d, w, a] for d, (w, a) in enumerate(policy)) <= limit
    ]
    return min(found)


def test_curves_are_near_the_best_policies_of_every_budget():
    theta, load, allowed = problem(3)
    curves = PriceCurves(theta, load, allowed)
    for model, limit in product((0, 1), (0.4, 0.6, 0.8)):
        expected = best_loss(theta[model], load, allowed, limit)
        found = curves.losses_to_go(np.array([model]), 0, np.array([limit]))[0]
        assert 0.7 * expected <= found <= 1.05 * expected


def test_losses_to_go_end_at_the_cheapest_and_at_the_best_policy_and_are_zero_after_the_last_decision():
    theta, load, allowed = problem(4)
    curves = PriceCurves(theta, load, allowed)
    losses = pair_losses(theta)[1]
    rows = np.arange(2, 4)
    cheapest, best = losses[rows, 1, 1].sum(), losses[rows, 3, 3].sum()
    found = curves.losses_to_go(np.array([1]), 2, np.array([[0.0, 1e-9, 10.0]]))
    np.testing.assert_allclose(found, [[cheapest, cheapest, best]], rtol=1e-9)
    assert curves.losses_to_go(np.array([0, 1]), 4, np.ones((2, 3))).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_prices_fall_and_bits_grow_along_a_curve():
    theta, load, allowed = problem(5)
    curves = PriceCurves(theta, load, allowed)
    assert curves.bits.shape == (2, PRICES, 5, 2)
    assert (curves.bits[:, 0] == 2).all()
    assert (curves.bits[:, -1] == 4).all()
    rows = np.arange(5)
    totals = load[rows, curves.bits[..., 0] - 1, curves.bits[..., 1] - 1].sum(axis=2)
    assert (np.diff(totals, axis=1) >= 0).all()


def test_positions_go_from_zero_to_one_with_the_load():
    theta, load, allowed = problem(5)
    curves = PriceCurves(theta, load, allowed)
    positions = curves.positions(np.zeros(4, dtype=np.int64), 0, np.array([0.0, 0.4, 0.8, 2.0]))
    assert positions[0] == 0
    assert positions[-1] == 1
    assert (np.diff(positions) > 0).all()


def test_a_single_policy_has_a_curve():
    theta, load, allowed = problem(2)
    allowed[:] = False
    allowed[:, 7, 7] = True
    curves = PriceCurves(theta, load, allowed)
    expected = pair_losses(theta)[0, :, 7, 7].sum()
    np.testing.assert_allclose(curves.losses_to_go(np.array([0]), 0, np.array([0.5])), [expected])

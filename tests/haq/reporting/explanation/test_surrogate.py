"""Surrogate of a run, on choices that are small enough to do by hand or to try out."""

from itertools import product

import numpy as np
import pytest

from envs.choices import Choices, IntArray
from haq.reporting.explanation.surrogate import (
    FloatArray,
    Surrogate,
    fit_surrogate,
    least_loss,
    loss_of,
    regrets,
    relax,
)

WIDTHS = np.arange(1, 9)


def a_choice(layers: int, widths: tuple[int, ...], limit: float) -> Choices:
    """Activations of 8 bits, weights of some widths; a bit of weights costs 1."""
    allowed = np.zeros((layers, 8, 8), dtype=np.bool_)
    allowed[:, [width - 1 for width in widths], 7] = True
    cost = np.broadcast_to(WIDTHS[:, None].astype(np.float64), (1, layers, 8, 8)).copy()
    names = tuple(f"layer{number}" for number in range(layers))
    return Choices(names, tuple(range(layers)), allowed, cost, np.array([limit]), ("latency",))


def bits_of(*w_bits: int) -> IntArray:
    return np.array([(width, 8) for width in w_bits], dtype=np.int64)


@pytest.fixture
def choice() -> Choices:
    """Two layers of 2 or 4 bits, and 7 to spend."""
    return a_choice(2, (2, 4), 7.0)


@pytest.fixture
def losses() -> FloatArray:
    """2 bits lose 4 in the first layer and 1 in the second, 4 bits lose nothing."""
    found = np.zeros((2, 8, 8))
    found[:, 1, 7] = (4.0, 1.0)
    return found


def test_the_relaxed_program_is_solved_as_by_hand(choice: Choices, losses: FloatArray) -> None:
    # 4 for the least bits leave 3: two of them take the first layer's loss away, the last half of the second's.
    found = relax(choice, losses)
    assert found.loss == pytest.approx(0.5)
    assert found.prices == pytest.approx([0.5])  # a loss of 1 for 2 bits


def test_best_policy_of_whole_bits_is_found(choice: Choices, losses: FloatArray) -> None:
    best = least_loss(choice, losses)
    assert best.tolist() == bits_of(4, 2).tolist()
    assert loss_of(losses, best) == 1.0


def test_regret_is_the_fraction_of_the_loss_above_the_bound(choice: Choices, losses: FloatArray) -> None:
    assert regrets(choice, bits_of(2, 4), [losses, 0 * losses]) == pytest.approx([3.5 / 4, 0.0])


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_the_unit_of_the_losses_does_not_matter(choice: Choices, losses: FloatArray, unit: float) -> None:
    assert relax(choice, unit * losses).loss == pytest.approx(0.5 * unit)


WORTH = np.array([8.0, 4.0, 1.0, 0.5])
LIMIT = 16.0


def true_loss(bits: IntArray) -> float:
    """Noise that falls by four with every bit, worth more in the first layers."""
    return float((WORTH * 0.25 ** bits[:, 0]).sum())


@pytest.fixture(scope="module")
def learned() -> Surrogate:
    choice = a_choice(4, (2, 3, 4, 5, 6), LIMIT)
    generator = np.random.default_rng(1)
    policies = np.stack([bits_of(*generator.integers(2, 7, 4).tolist()) for _ in range(40)])
    return fit_surrogate(choice, policies, np.array([-true_loss(bits) for bits in policies]))


def test_additive_losses_are_recovered(learned: Surrogate) -> None:
    for bits in (bits_of(5, 4, 3, 2), bits_of(3, 3, 6, 4)):
        found = learned.predict(bits)
        assert found.reward == pytest.approx(-true_loss(bits), rel=0.3)
        assert found.low < found.reward < found.high < learned.ceiling


def test_predicted_best_policy_is_close_to_the_true_best(learned: Surrogate) -> None:
    all_of_them = [bits_of(*widths) for widths in product(range(2, 7), repeat=4) if sum(widths) <= LIMIT]
    best = min(map(true_loss, all_of_them))
    assert true_loss(least_loss(learned.choice, learned.losses)) <= 1.1 * best
    bound = learned.ceiling - relax(learned.choice, learned.losses).loss
    assert bound == pytest.approx(-best, abs=0.02)


def test_sampled_losses_scatter_around_the_most_probable(learned: Surrogate) -> None:
    draws = learned.draw_losses(np.random.default_rng(0), 30)
    assert draws.shape == (30, 4, 8, 8)
    found = np.array([loss_of(each, bits_of(3, 3, 3, 3)) for each in draws])
    assert np.median(found) == pytest.approx(loss_of(learned.losses, bits_of(3, 3, 3, 3)), rel=0.25)
    assert found.std() > 0
    shares = regrets(learned.choice, bits_of(3, 3, 3, 3), list(draws))
    assert 0 <= shares.min() < shares.max() < 1


def test_three_policies_are_too_few() -> None:
    with pytest.raises(ValueError, match="at least 4 different policies, got 3"):
        fit_surrogate(a_choice(1, (2, 3, 4), 9.0), np.array([bits_of(2), bits_of(3), bits_of(4)]), np.arange(3.0))


def test_large_runs_are_subsampled() -> None:
    choice = a_choice(4, (2, 3, 4, 5, 6), 24.0)
    policies = np.array([bits_of(*widths) for widths in product(range(2, 7), repeat=4)])
    found = fit_surrogate(choice, policies, np.array([-true_loss(bits) for bits in policies]))
    assert found.policies == 300

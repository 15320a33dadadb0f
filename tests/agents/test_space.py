from dataclasses import replace

import numpy as np
import pytest


def test_nominal_prior_is_relative_quantization_error(make_space):
    prior = make_space().nominal_prior
    assert prior.shape == (4, 8, 8)
    assert prior[2, 1, 2] == 1 / 16 + 1 / 64


def test_measured_prior_replaces_nominal_prior(make_space):
    prior = np.random.default_rng(0).random((4, 8, 8))
    assert make_space(prior=prior).nominal_prior is prior


def test_pairs_are_bits_in_ascending_order(make_space):
    assert make_space(widths=(2, 4)).pairs(0).tolist() == [[2, 2], [2, 4], [4, 2], [4, 4]]
    assert make_space(pinned=True, ratios=(0.9,)).pairs(3).tolist() == [[8, 8]]


def test_nearest_prefers_fewer_bits(make_space):
    space = make_space(widths=(2, 4, 8))
    assert space.nearest(np.array([[3, 3], [1, 8], [6, 7], [5, 4]])).tolist() == [[2, 2], [2, 8], [4, 8], [4, 4]]


def test_total_and_expected_loss(make_space):
    space = make_space((3.0, 1.0))
    bits = np.array([[2, 5], [4, 3]])
    assert space.total(bits).tolist() == [3 * 10 + 12]
    assert space.expected_loss(bits) == pytest.approx(4**-2 + 4**-5 + 4**-4 + 4**-3)


@pytest.mark.parametrize(
    ("bits", "fits"),
    [
        ([[2, 5], [5, 5]], False),
        ([[3, 5], [1, 2]], False),
        ([[3, 5], [9, 2]], False),
        ([[3, 4], [3, 4]], True),
        ([[4, 3], [4, 4]], False),
    ],
    ids=["over by a little", "not allowed", "beyond the table", "exactly the budget", "over the budget"],
)
def test_fits(make_space, bits, fits):
    """Sizes 3 and 1 with up to 5 x 5 bits cost 100; the budget is 48."""
    assert make_space((3.0, 1.0), ratios=(0.48,)).fits(np.array(bits)) is fits


def test_samples_are_legal_and_varied(make_space):
    space, generator = make_space((3.0, 1.0, 2.0, 4.0, 1.0)), np.random.default_rng(0)
    samples = [space.sample(generator) for _ in range(50)]
    assert all(space.fits(bits) for bits in samples)
    assert len({bits.tobytes() for bits in samples}) > 40


def changed(space, **arrays):
    return replace(space, constraints=replace(space.constraints, **arrays))


def test_inconsistent_shapes_raise(make_space):
    space = make_space()
    with pytest.raises(ValueError, match=r"allowed must be \[4, w_bits, a_bits\]"):
        changed(space, allowed=space.allowed[:3])
    with pytest.raises(ValueError, match="cost must have the shape"):
        changed(space, limits=np.ones(2))
    with pytest.raises(ValueError, match="prior must have the shape"):
        replace(space, prior=np.zeros((4, 8)))
    with pytest.raises(ValueError, match="prior must be finite"):
        replace(space, prior=np.full((4, 8, 8), np.nan))
    with pytest.raises(ValueError, match="'layer1' must have at least one pair"):
        changed(space, allowed=space.allowed & (np.arange(4) != 1)[:, None, None])

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import truncnorm

from agents.noise import decayed_sigma, truncated_normal


def sample(mean: float, sigma: float, count: int = 4000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.tensor([truncated_normal(mean, sigma, generator) for _ in range(count)], dtype=torch.float64)


def density(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def below(x: float) -> float:
    return (1 + math.erf(x / math.sqrt(2))) / 2


@pytest.mark.parametrize(("mean", "sigma"), [(0.5, 0.5), (0.0, 0.5), (0.9, 0.2), (0.3, 0.05)])
def test_moments_are_those_of_the_truncated_normal(mean, sigma):
    """Mean and variance in closed form: a = -mean/sigma, b = (1-mean)/sigma, Z = Phi(b) - Phi(a)."""
    a, b = -mean / sigma, (1 - mean) / sigma
    mass = below(b) - below(a)
    shift = (density(a) - density(b)) / mass
    expected_mean = mean + sigma * shift
    expected_variance = sigma**2 * (1 + (a * density(a) - b * density(b)) / mass - shift**2)
    draws = sample(mean, sigma)
    # Four standard errors of 4000 draws.
    assert draws.mean().item() == pytest.approx(expected_mean, abs=4 * math.sqrt(expected_variance / 4000))
    assert draws.var().item() == pytest.approx(expected_variance, rel=0.1)


def test_truncated_normal_has_no_mass_on_bounds():
    draws = sample(0.0, 0.5)
    assert ((draws > 0) & (draws < 1)).all()


@given(mean=st.floats(0, 1), sigma=st.floats(0, 1e6), seed=st.integers(0, 2**31))
def test_truncated_normal_is_finite_and_in_unit_interval(mean, sigma, seed):
    assert 0 <= truncated_normal(mean, sigma, torch.Generator().manual_seed(seed)) <= 1


def test_truncated_normal_uses_one_draw_for_any_width():
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    for generator, sigma in zip(generators, (0.0, 0.5), strict=True):
        truncated_normal(0.5, sigma, generator)
    assert torch.equal(generators[0].get_state(), generators[1].get_state())


@pytest.mark.parametrize(("mean", "sigma"), [(math.nan, 0.5), (1.1, 0.5), (-0.1, 0.5), (0.5, -1.0), (0.5, math.nan)])
def test_truncated_normal_rejects_invalid_parameters(mean, sigma):
    with pytest.raises(ValueError, match="mean must be in"):
        truncated_normal(mean, sigma, torch.Generator())


def test_sigma_decays_per_episode():
    assert [decayed_sigma(0.5, 0.5, episodes) for episodes in range(3)] == [0.5, 0.25, 0.125]


def test_draw_is_the_quantile_of_one_uniform_number():
    uniform = torch.rand((), generator=torch.Generator().manual_seed(5), dtype=torch.float64).item()
    low, high = (0 - 0.3) / 0.4, (1 - 0.3) / 0.4
    expected = truncnorm.ppf(uniform, low, high, loc=0.3, scale=0.4)
    assert truncated_normal(0.3, 0.4, torch.Generator().manual_seed(5)) == pytest.approx(expected)


@pytest.mark.parametrize("mean", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("sigma", [0.0, 1e-13])
def test_without_width_the_mean_is_returned(mean, sigma):
    assert truncated_normal(mean, sigma, torch.Generator()) == mean


def test_infinite_width_is_rejected():
    with pytest.raises(ValueError, match=r"got 0\.5 and inf"):
        truncated_normal(0.5, math.inf, torch.Generator())

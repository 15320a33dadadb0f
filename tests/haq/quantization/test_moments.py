"""Moments of channels, compared with torch's."""

import pytest
import torch

from haq.quantization import moments as module
from haq.quantization.moments import channel_moments

SHAPES = [((6, 4, 5, 3), 1), ((6, 4), 1), ((2, 7, 4), 2), ((4, 5, 3), 0), ((1, 4, 1, 1), 1), ((4,), 0)]


@pytest.mark.parametrize("values_at_once", [1, 60, 1 << 18])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_moments_are_those_of_torch(
    shape: tuple[int, ...], axis: int, values_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_VALUES_AT_ONCE", values_at_once)
    x = 3 + torch.randn(shape, generator=torch.Generator().manual_seed(0))
    mean, variance = channel_moments(x, axis)
    rows = x.double().movedim(axis, 0).flatten(1) if x.ndim > 1 else x.double()[:, None]
    expected, expected_mean = torch.var_mean(rows, dim=1, correction=0)
    torch.testing.assert_close(mean.double(), expected_mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(variance.double(), expected, rtol=1e-5, atol=1e-6)


def test_a_large_mean_does_not_cost_the_variance() -> None:
    x = 1000 + torch.randn(8, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    _, variance = channel_moments(x)
    torch.testing.assert_close(variance, x.double().var(dim=(0, 2, 3), correction=0).float(), rtol=1e-3, atol=0)


def test_half_precision_is_computed_in_float32() -> None:
    x = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    mean, variance = channel_moments(x)
    assert (mean.dtype, variance.dtype) == (torch.float32, torch.float32)
    torch.testing.assert_close(mean, x.float().mean(dim=(0, 2, 3)))

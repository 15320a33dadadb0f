"""Joint search of scale and zero point: against exhaustive search, on skewed, symmetric, constant and empty data."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from haq.quantization.affine import Shift, affine_fits
from haq.quantization.calibration import distortion
from haq.quantization.histogram import build_histogram
from haq.quantization.range import IntegerRange, fake_quantize


def gaussian(count: int = 200_000) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(0))


SILU = functional.silu(gaussian(1_000_000))
SILU_HISTOGRAM = build_histogram([SILU])


@pytest.mark.parametrize(
    ("signed", "shift", "ratios_db"),
    [
        (False, "none", {2: 9.3, 3: 11.1, 4: 11.8}),
        (True, "none", {2: 5.7, 3: 9.4, 4: 15.8}),
        (True, "integer", {2: 9.3, 3: 14.5, 4: 20.1}),
        (False, "integer", {2: 9.3, 3: 14.5, 4: 20.1}),
        (True, "float", {2: 10.7, 3: 15.7, 4: 20.7}),
    ],
)
def test_signal_to_noise_ratio_on_silu(signed: bool, shift: Shift, ratios_db: dict[int, float]) -> None:
    power = float(SILU.double().square().mean())
    fits = affine_fits(SILU_HISTOGRAM, signed=signed, shift=shift, bits=ratios_db)
    found = {bits: float(10 * np.log10(power / fit.error)) for bits, fit in fits.items()}
    assert found == pytest.approx(ratios_db, abs=0.06)


@pytest.mark.parametrize("shift", ["none", "integer", "float"])
@pytest.mark.parametrize("bits", [1, 2, 5, 8])
def test_error_equals_error_of_fake_quantize(shift: Shift, bits: int) -> None:
    grid = IntegerRange(bits, signed=True)
    fit = affine_fits(SILU_HISTOGRAM, signed=True, shift=shift, bits=(bits,))[bits]
    whole = round(fit.zero_point)
    offset = (whole - fit.zero_point) * fit.scale
    quantized = fake_quantize(SILU - offset, torch.tensor(fit.scale), whole, grid.q_min, grid.q_max) + offset
    assert fit.error == pytest.approx(float((quantized - SILU).double().square().mean()), rel=0.01)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_error_is_close_to_exhaustive_search(bits: int) -> None:
    grid = IntegerRange(bits, signed=True)
    scale = np.linspace(0.01, 2, 400)
    best = min(
        distortion(SILU_HISTOGRAM, scale, grid=grid, zero_point=zero_point).min()
        for zero_point in range(grid.q_min, grid.q_max + 1)
    )
    assert affine_fits(SILU_HISTOGRAM, signed=True, bits=(bits,))[bits].error <= 1.005 * best


def test_signed_and_unsigned_codes_give_same_grid() -> None:
    signed, unsigned = (affine_fits(SILU_HISTOGRAM, signed=each, bits=(3, 4, 8)) for each in (True, False))
    for bits in signed:
        assert signed[bits].scale == unsigned[bits].scale
        assert signed[bits].zero_point == unsigned[bits].zero_point - 2 ** (bits - 1)


SKEWED = {
    "silu": functional.silu,
    "mish": functional.mish,
    "h-swish": functional.hardswish,
    "gelu": functional.gelu,
    "leaky relu": lambda x: functional.leaky_relu(x, 0.1),
    "linear bottleneck with a mean": lambda x: x + 0.8,
    "residual sum": lambda x: x.relu() + 0.3 * x.roll(1),
}
EVEN = {
    "gaussian": lambda x: x,
    "heavy tails": lambda x: torch.cat([x**3, -(x**3)]),  # both ways, or its largest value would make it skewed
    "relu": torch.relu,
}


@pytest.mark.parametrize("name", SKEWED)
def test_skewed_values_get_a_zero_point(name: str) -> None:
    histogram = build_histogram([SKEWED[name](gaussian())])
    with_shift, without = (affine_fits(histogram, signed=True, shift=kind, bits=(3, 4)) for kind in ("integer", "none"))
    for bits in (3, 4):
        assert with_shift[bits].zero_point < 0
        assert with_shift[bits].error < 0.9 * without[bits].error


@pytest.mark.parametrize("name", EVEN)
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_symmetric_values_get_no_zero_point(name: str, bits: int) -> None:
    histogram = build_histogram([EVEN[name](gaussian())])
    assert affine_fits(histogram, signed=histogram.signed, bits=(bits,))[bits].zero_point == 0


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=30), st.sampled_from(["none", "integer", "float"]))
@settings(max_examples=30, deadline=None)
def test_zero_points_are_codes_and_shift_does_not_raise_error(values: list[float], shift: Shift) -> None:
    histogram = build_histogram([torch.tensor(values)])
    fits = affine_fits(histogram, signed=histogram.signed, shift=shift, bits=(2, 4, 8))
    plain = affine_fits(histogram, signed=histogram.signed, shift="none", bits=(2, 4, 8))
    for bits, fit in fits.items():
        grid = IntegerRange(bits, signed=histogram.signed)
        assert fit.scale > 0
        assert np.float32(fit.scale) == fit.scale
        assert grid.q_min - 0.5 <= fit.zero_point <= grid.q_max + 0.5
        assert 0 <= fit.error <= plain[bits].error * 1.0001 + 1e-9


def test_narrow_grid_excludes_lowest_code() -> None:
    histogram = build_histogram([torch.tensor([-2.0, -1.0, 0.0, 1.0])])
    full, narrow = (affine_fits(histogram, signed=True, narrow=each, bits=(2,))[2] for each in (False, True))
    assert (full.scale, full.zero_point, full.error) == (pytest.approx(1, rel=0.02), 0, pytest.approx(0, abs=1e-3))
    assert narrow.error > 0.05


@pytest.mark.parametrize("value", [0.3, -0.3, 1e-30, -1e30])
@pytest.mark.parametrize("shift", ["integer", "float"])
def test_constant_is_represented(value: float, shift: Shift) -> None:
    fits = affine_fits(build_histogram([torch.full((9,), value)]), signed=value < 0, shift=shift)
    assert all(fit.error <= 1e-3 * value**2 for fit in fits.values())


def test_zeros_have_scale_one() -> None:
    fits = affine_fits(build_histogram([torch.zeros(5)]), signed=True)
    assert {(fit.scale, fit.zero_point, fit.error) for fit in fits.values()} == {(1, 0, 0)}


def test_empty_histogram_raises() -> None:
    with pytest.raises(ValueError, match="no values were seen"):
        affine_fits(build_histogram([]), signed=True)


def test_scale_is_proportional_to_data() -> None:
    small = affine_fits(SILU_HISTOGRAM, signed=True, bits=(4,))[4]
    large = affine_fits(build_histogram([SILU * 1024]), signed=True, bits=(4,))[4]
    assert large.scale == pytest.approx(1024 * small.scale)
    assert large.zero_point == small.zero_point

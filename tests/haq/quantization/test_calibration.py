"""Calibrated clips: their squared error, and data with a spike, an outlier, or few distinct values."""

import numpy as np
import pytest
import torch
from torch import Tensor

from haq.quantization.calibration import CALIBRATION_METHODS, clips, distortion
from haq.quantization.histogram import Histogram, build_histogram
from haq.quantization.range import IntegerRange, fake_quantize
from haq.settings import CalibrationMethod

COUNT = 200_000
WIDTHS = range(2, 9)


def gaussian() -> Tensor:
    return torch.randn(COUNT, generator=torch.Generator().manual_seed(0))


def laplace() -> Tensor:
    x = torch.rand(COUNT, generator=torch.Generator().manual_seed(1)) - 0.5
    return -x.sign() * torch.log1p(-2 * x.abs() * (1 - 1e-7))


DISTRIBUTIONS = {
    "gaussian": (gaussian(), True),
    "laplace": (laplace(), True),
    "half gaussian": (gaussian().abs(), False),
    "half gaussian with a spike at 0": (gaussian().relu(), False),
    "half laplace with a spike at 0": (laplace().relu(), False),
}


def error_of(x: Tensor, clip: float, grid: IntegerRange) -> float:
    quantized = fake_quantize(x, torch.tensor(clip / grid.steps), 0, grid.q_min, grid.q_max)
    return float((quantized - x).double().square().mean())


def lost_db(histogram: Histogram, method: CalibrationMethod, *, grid: IntegerRange) -> float:
    """Loss of signal-to-noise ratio (dB) of a method's clip against the MSE clip."""
    found = [
        clips(histogram, method=m, signed=grid.signed, narrow=grid.narrow, bits=(grid.bits,))[grid.bits]
        for m in (method, "mse")
    ]
    errors = distortion(histogram, np.array(found) / grid.steps, grid=grid)
    return float(10 * np.log10(errors[0] / errors[1]))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("narrow", [True, False])
def test_kl_is_within_one_db_of_the_mse_optimum(name: str, narrow: bool) -> None:
    x, signed = DISTRIBUTIONS[name]
    histogram = build_histogram([x])
    losses = [lost_db(histogram, "kl", grid=IntegerRange(b, signed=signed, narrow=narrow)) for b in WIDTHS]
    assert max(losses) <= 1.0


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_percentile_is_within_one_db_of_the_mse_optimum(name: str) -> None:
    x, signed = DISTRIBUTIONS[name]
    histogram = build_histogram([x])
    losses = [lost_db(histogram, "percentile", grid=IntegerRange(b, signed=signed, narrow=True)) for b in WIDTHS]
    assert max(losses) <= 1.0


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_distortion_equals_error_of_fake_quantize(name: str, bits: int) -> None:
    x, signed = DISTRIBUTIONS[name]
    grid = IntegerRange(bits, signed=signed)
    predicted = distortion(build_histogram([x]), np.array([1.3, 3.1]) / grid.steps, grid=grid)
    assert predicted.tolist() == pytest.approx([error_of(x, clip, grid) for clip in (1.3, 3.1)], rel=0.005)


def test_distortion_with_zero_point() -> None:
    x = gaussian() + 0.5
    predicted = distortion(build_histogram([x]), np.array([0.25]), grid=IntegerRange(4, signed=False), zero_point=6)
    quantized = fake_quantize(x, torch.tensor(0.25), 6, 0, 15)
    assert predicted[0] == pytest.approx(float((quantized - x).double().square().mean()), rel=0.005)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_mse_is_close_to_exhaustive_search(name: str) -> None:
    x, signed = DISTRIBUTIONS[name]
    histogram = build_histogram([x])
    found = clips(histogram, method="mse", signed=signed, bits=WIDTHS)
    for bits, clip in found.items():
        grid = IntegerRange(bits, signed=signed)
        candidates = np.linspace(0.02, 1, 500) * histogram.peak(signed=signed)
        best = distortion(histogram, candidates / grid.steps, grid=grid).min()
        assert distortion(histogram, np.array([clip / grid.steps]), grid=grid)[0] <= 1.02 * best


@pytest.mark.parametrize("method", CALIBRATION_METHODS)
def test_clips_are_proportional_to_data(method: CalibrationMethod) -> None:
    # Powers of two shift the histogram by whole octaves, so the clips are exactly as much larger.
    small = clips(build_histogram([gaussian()]), method=method, signed=True)
    large = clips(build_histogram([gaussian() * 1024]), method=method, signed=True)
    assert list(large.values()) == pytest.approx([1024 * clip for clip in small.values()])


@pytest.mark.parametrize("method", CALIBRATION_METHODS)
@pytest.mark.parametrize(("value", "signed"), [(0.3, False), (0.3, True), (-7.0, True), (1e-30, False), (1e30, True)])
def test_constant_is_represented(method: CalibrationMethod, value: float, signed: bool) -> None:
    x = torch.full((1000,), value)
    histogram = build_histogram([x])
    for bits, clip in clips(histogram, method=method, signed=signed, bits=WIDTHS).items():
        grid = IntegerRange(bits, signed=signed, narrow=True)
        quantized = fake_quantize(x[:1], torch.tensor(clip / grid.steps), 0, grid.q_min, grid.q_max)
        assert quantized.item() == pytest.approx(value, rel=0.35 if bits == 2 else 0.15)


@pytest.mark.parametrize("method", CALIBRATION_METHODS)
def test_fewer_distinct_values_than_levels(method: CalibrationMethod) -> None:
    histogram = build_histogram([torch.tensor([0.0, 1.0, 2.0, 5.0])])
    found = clips(histogram, method=method, signed=False)
    assert all(0 < clip <= 5 for clip in found.values())


@pytest.mark.parametrize("method", CALIBRATION_METHODS)
@pytest.mark.parametrize(("x", "signed"), [(torch.zeros(5), True), (torch.tensor([-1.0, 0.0]), False)])
def test_nothing_to_represent_gives_clip_one(method: CalibrationMethod, x: Tensor, signed: bool) -> None:
    assert set(clips(build_histogram([x]), method=method, signed=signed).values()) == {1.0}


@pytest.mark.parametrize("method", ["kl", "percentile"])
def test_one_outlier_does_not_determine_clip(method: CalibrationMethod) -> None:
    x = gaussian()
    x[0] = 1000.0
    found = clips(build_histogram([x]), method=method, signed=True, bits=WIDTHS)
    assert all(clip < 10 for clip in found.values())


def test_mse_includes_outlier_at_8_bits() -> None:
    x = gaussian()
    x[0] = 1000.0
    clip = clips(build_histogram([x]), method="mse", signed=True, bits=(8,))[8]
    grid = IntegerRange(8, signed=True)
    assert error_of(x, clip, grid) <= min(error_of(x, 4.5, grid), error_of(x, 1000.0, grid))


@pytest.mark.parametrize("method", ["mse", "kl", "percentile"])
def test_clip_does_not_decrease_with_bits(method: CalibrationMethod) -> None:
    found = list(clips(build_histogram([gaussian()]), method=method, signed=True, bits=WIDTHS).values())
    assert found == sorted(found)


def test_percentile_ignores_zeros() -> None:
    spiked = torch.cat([gaussian().abs(), torch.zeros(10 * COUNT)])
    found = [clips(build_histogram([x]), method="percentile", signed=False) for x in (gaussian().abs(), spiked)]
    assert found[0] == found[1]


def test_method_by_bit_width() -> None:
    histogram = build_histogram([gaussian()])
    mixed = clips(histogram, method={2: "mse", 8: "max"}, signed=True, bits=(2, 8))
    assert mixed[2] == clips(histogram, method="mse", signed=True)[2]
    assert mixed[8] == histogram.peak(signed=True)


def test_empty_histogram_and_unknown_method_raise() -> None:
    with pytest.raises(ValueError, match="no values were seen"):
        clips(build_histogram([torch.empty(0)]), method="mse", signed=True)
    with pytest.raises(ValueError, match="unknown calibration method 'entropy'; known are kl,"):
        clips(build_histogram([torch.ones(1)]), method="entropy", signed=True)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="from 1 to 8, got 9"):
        clips(build_histogram([torch.ones(1)]), method="mse", signed=True, bits=(9,))


@pytest.mark.parametrize(("bits", "signed", "share"), [(2, False, 15 / 16), (3, True, 15 / 16), (4, False, 255 / 256)])
def test_percentile_leaves_one_value_in_squared_levels_above_the_clip(bits: int, signed: bool, share: float) -> None:
    values = torch.arange(1.0, 1001.0)
    clip = clips(build_histogram([values]), method="percentile", signed=signed, bits=(bits,))[bits]
    assert clip == pytest.approx(1000 * share, rel=2e-3)


def test_distortion_by_hand() -> None:
    histogram = build_histogram([torch.tensor([1.0, -3.0, 0.0, 0.75])])
    # Codes -2 to 1 in steps of 1: -3 becomes -2, 0.75 becomes 1. With a zero point of 1 in 0 to 3, -3 becomes -1.
    signed, unsigned = IntegerRange(2, signed=True), IntegerRange(2, signed=False)
    assert distortion(histogram, np.array([1.0]), grid=signed)[0] == pytest.approx((1 + 0.0625) / 4, rel=0.01)
    shifted = distortion(histogram, np.array([1.0]), grid=unsigned, zero_point=1)
    assert shifted[0] == pytest.approx((4 + 0.0625) / 4, rel=0.01)
    # In steps of 0.5 the codes reach -1 to 0.5.
    assert distortion(histogram, np.array([0.5]), grid=signed)[0] == pytest.approx((0.25 + 4 + 0.0625) / 4, rel=0.01)

"""Weights and activations of the linear quantizer."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from haq.quantization.calibration import CALIBRATION_METHODS
from haq.quantization.histogram import build_histogram
from haq.quantization.linear import (
    activation_quantizer,
    activation_quantizers,
    quantize_to_clips,
    quantize_weight,
    weight_clips,
)
from haq.quantization.range import fake_quantize
from haq.settings import CalibrationMethod


def gaussian(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def best_error(row: Tensor, bits: int) -> float:
    """Return the least squared error of one channel over a fine grid of clips."""
    q_max = 2 ** (bits - 1) - 1
    scale = torch.linspace(0.02, 1, 400, dtype=torch.float64)[:, None] * row.abs().max() / q_max
    return float((((row / scale).round().clamp(-q_max, q_max) * scale - row) ** 2).sum(dim=1).min())


def test_codes_by_hand() -> None:
    quantized = quantize_weight(torch.tensor([[0.3, -0.6, 0.2], [3.0, 1.4, -1.6]]), 3, method="max")
    assert quantized.codes.tolist() == [[2, -3, 1], [3, 1, -2]]  # 0.3 / 0.2 is 1.5 in float32 and goes to even
    assert quantized.scale.tolist() == pytest.approx([0.2, 1.0])
    assert quantized.codes.dtype == torch.int8
    assert quantized.dequantize()[1].tolist() == [3, 1, -2]


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("shape", [(8, 300), (16, 1, 3, 3)])
def test_mse_clips_are_close_to_optimum(bits: int, shape: tuple[int, ...]) -> None:
    weight = gaussian(*shape)
    error = (quantize_weight(weight, bits).dequantize() - weight).double().square().sum()
    # The error of nine weights is jagged: candidates 3 % apart miss its lowest notch.
    assert error <= 1.15 * sum(best_error(row, bits) for row in weight.double().flatten(1))


@pytest.mark.parametrize("method", CALIBRATION_METHODS)
@pytest.mark.parametrize("bits", range(1, 9))
def test_codes_fit_their_bits_and_zeros_stay_zero(method: CalibrationMethod, bits: int) -> None:
    weight = gaussian(6, 40)
    weight[2] = 0
    weight[3, 5:] = 0
    quantized = quantize_weight(weight, bits, method=method)
    assert -(2 ** (bits - 1)) + (bits > 3) <= quantized.codes.min()
    assert quantized.codes.max() <= 2 ** (bits - 1) - 1
    assert len(quantized.codes.unique()) <= 2**bits
    assert (quantized.dequantize()[weight == 0] == 0).all()
    assert (quantized.scale > 0).all()
    assert quantized.dequantize().isfinite().all()


@pytest.mark.parametrize("weight", [torch.zeros(3, 4), torch.full((2, 2), 1e-42), torch.zeros(1, 1)])
def test_zero_and_subnormal_weights(weight: Tensor) -> None:
    quantized = quantize_weight(weight, 4)
    assert (quantized.scale > 0).all()
    assert torch.allclose(quantized.dequantize(), weight, atol=1e-40)


def test_zero_channel_gets_largest_scale() -> None:
    quantized = quantize_weight(torch.tensor([[7.0], [0.0], [14.0]]), 4, method="max")
    assert quantized.scale.tolist() == [1, 2, 2]


@pytest.mark.parametrize("method", CALIBRATION_METHODS)
def test_all_widths_equal_single_widths(method: CalibrationMethod) -> None:
    weight = gaussian(5, 64)
    together = weight_clips(weight, method=method)
    for bits, clip in together.items():
        alone = quantize_weight(weight, bits, method=method)
        assert torch.equal(quantize_to_clips(weight, bits, clip=clip).codes, alone.codes)
    assert list(together) == list(range(1, 9))


@pytest.mark.parametrize("method", CALIBRATION_METHODS)
def test_clips_do_not_exceed_channel_maximum(method: CalibrationMethod) -> None:
    weight = gaussian(20, 9)
    assert all((clip <= weight.abs().amax(dim=1)).all() for clip in weight_clips(weight, method=method).values())


def test_weight_method_by_bit_width() -> None:
    weight = gaussian(4, 100)
    mixed = weight_clips(weight, method={2: "kl", 4: "mse", 8: "max"}, bits=(2, 4, 8))
    assert list(mixed) == [2, 4, 8]
    assert torch.equal(mixed[2], weight_clips(weight, method="kl")[2])
    assert torch.equal(mixed[4], weight_clips(weight, method="mse")[4])
    assert torch.equal(mixed[8], weight.abs().amax(dim=1))


@given(st.floats(2.0**-60, 2.0**60), st.integers(2, 8))
@settings(max_examples=20, deadline=None)
def test_codes_do_not_depend_on_unit(factor: float, bits: int) -> None:
    power = 2.0 ** round(torch.tensor(factor).log2().item())
    weight = gaussian(4, 30)
    assert torch.equal(quantize_weight(weight * power, bits).codes, quantize_weight(weight, bits).codes)


def test_channels_along_another_axis() -> None:
    weight = gaussian(3, 5, 2, 2)
    across = quantize_weight(weight, 4, channel_axis=1)
    first = quantize_weight(weight.transpose(0, 1), 4)
    assert across.scale.shape == (5,)
    assert torch.equal(across.codes, first.codes.transpose(0, 1))
    assert torch.equal(across.dequantize(), first.dequantize().transpose(0, 1))


def test_more_channels_than_one_chunk() -> None:
    weight = gaussian(1100, 9)
    assert torch.equal(quantize_weight(weight, 3).codes[600:700], quantize_weight(weight[600:700], 3).codes)


@pytest.mark.parametrize("weight", [torch.empty(0, 3), torch.tensor([[1.0, float("nan")]])])
def test_empty_and_non_finite_weights_raise(weight: Tensor) -> None:
    with pytest.raises(ValueError, match="weights must be finite and at least one"):
        quantize_weight(weight, 4)


@pytest.mark.parametrize(
    ("values", "signed", "q_min", "q_max"), [([0.0, 6.0], False, 0, 15), ([-1e-6, 6.0], True, -8, 7)]
)
def test_signedness_comes_from_the_data(values: list[float], signed: bool, q_min: int, q_max: int) -> None:
    found = activation_quantizer(build_histogram([torch.tensor(values)]), 4, method="max")
    assert (found.signed, found.q_min, found.q_max, found.zero_point) == (signed, q_min, q_max, 0)
    assert found.scale == pytest.approx(6 / q_max)


def test_activations_at_all_widths() -> None:
    histogram = build_histogram([gaussian(1000).relu()])
    found = activation_quantizers(histogram, method="mse")
    assert list(found) == list(range(1, 9))
    assert found[3] == activation_quantizer(histogram, 3, method="mse")


@pytest.mark.parametrize("values", [[0.0, 0.0], [1e-38, 2e-38]])
def test_activation_scale_is_positive(values: list[float]) -> None:
    found = activation_quantizer(build_histogram([torch.tensor(values)]), 8, method="max")
    assert found.scale > 0
    assert torch.tensor(found.scale).item() == found.scale


BIASED: dict[str, Callable[[Tensor], Tensor]] = {
    "SiLU": F.silu,
    "GELU": F.gelu,
    "h-swish": F.hardswish,
    "Mish": F.mish,
    "LeakyReLU": lambda x: F.leaky_relu(x, 0.1),
    "residual sum": lambda x: x.flip(0).relu() + 0.5 * x,
    "linear bottleneck": lambda x: x + 1,
    "negative": lambda x: -x.relu(),
}


@pytest.mark.parametrize("name", BIASED)
@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_skewed_activations_get_zero_point(name: str, bits: int) -> None:
    x = BIASED[name](gaussian(20_000))
    histogram = build_histogram([x])
    shifted, plain = (activation_quantizer(histogram, bits, method="mse", zero_points=z) for z in ("auto", "none"))
    errors = [
        float((fake_quantize(x, torch.tensor(each.scale), each.zero_point, each.q_min, each.q_max) - x).square().mean())
        for each in (shifted, plain)
    ]
    assert shifted.zero_point != 0
    assert errors[0] < errors[1] / 10**0.008  # a tenth of a decibel, less what bins of a histogram hide
    assert plain.zero_point == 0


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("offset", [-3.0, -0.2, 0.0, 4.0])
def test_zero_stays_exact_and_codes_fit_their_bits(bits: int, offset: float) -> None:
    found = activation_quantizer(build_histogram([gaussian(5000) + offset]), bits, method="mse")
    assert found.q_min <= found.zero_point <= found.q_max
    assert found.q_max - found.q_min == 2**bits - 1
    zero = fake_quantize(torch.zeros(1), torch.tensor(found.scale), found.zero_point, found.q_min, found.q_max)
    assert zero.item() == 0


@pytest.mark.parametrize("values", [gaussian(20_000), gaussian(20_000).relu()], ids=["even", "rectified"])
def test_symmetric_activations_get_no_zero_point(values: Tensor) -> None:
    histogram = build_histogram([values])
    assert all(
        found.zero_point == 0 for found in activation_quantizers(histogram, method="mse", bits=(3, 4, 8)).values()
    )


@pytest.mark.parametrize("method", CALIBRATION_METHODS)
def test_only_mse_gives_zero_points_unless_disabled(method: CalibrationMethod) -> None:
    histogram = build_histogram([F.silu(gaussian(5000))])
    auto, none = (activation_quantizers(histogram, method=method, zero_points=z) for z in ("auto", "none"))
    assert (auto == none) == (method != "mse")
    assert all(found.zero_point == 0 for found in none.values())


def test_activation_method_by_bit_width() -> None:
    histogram = build_histogram([F.silu(gaussian(5000))])
    mixed = activation_quantizers(histogram, method={3: "kl", 4: "mse"}, bits=(3, 4))
    assert mixed[3] == activation_quantizer(histogram, 3, method="kl")
    assert mixed[4] == activation_quantizer(histogram, 4, method="mse")

"""Scales under the rules of a deployment target: powers of two, one for the whole tensor."""

import pytest
import torch
from torch import Tensor

from haq.errors import UserError
from haq.experiment.target_quantizers import are_powers_of_two, require_legal_quantizers
from haq.quantization.affine import affine_fits
from haq.quantization.histogram import Histogram, build_histogram
from haq.quantization.layer_weights import LinearWeights
from haq.quantization.linear import _power_of_two, activation_quantizers
from haq.quantization.range import IntegerRange
from haq.quantization.rounding import GptqRounding, _shrinkage
from haq.quantization.weight_scales import ANY_SCALES, ScaleRule, powers_around
from hardware_sim.target_catalog import load_target

POWERS, SHARED = ScaleRule(power_of_two=True), ScaleRule(per_tensor=True)
BOTH = ScaleRule(per_tensor=True, power_of_two=True)


def some_weights() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 4, 3, 3, generator=generator) * torch.tensor([0.1, 0.3, 1, 2, 5, 0]).reshape(6, 1, 1, 1)


def hessian() -> Tensor:
    x = torch.randn(64, 37, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x[:, -1] = 1
    return (x.mT @ x / len(x))[None].float()


def quantized(rule: ScaleRule, bits: int, *, gptq: bool = False) -> LinearWeights:
    rounding = GptqRounding(hessian, rule) if gptq else None
    weights = LinearWeights(some_weights(), channel_axis=0, method="mse", rounding=rounding, scales=rule)
    weights.quantize(bits)
    return weights


@pytest.mark.parametrize("gptq", [False, True], ids=["nearest", "gptq"])
@pytest.mark.parametrize("rule", [POWERS, SHARED, BOTH], ids=["powers", "shared", "both"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_scales_follow_the_rule(rule: ScaleRule, bits: int, gptq: bool) -> None:
    found = quantized(rule, bits, gptq=gptq).quantize(bits)
    assert found.codes is not None
    assert are_powers_of_two(found.codes.scale) or not rule.power_of_two
    assert bool((found.codes.scale == found.codes.scale[0]).all()) or not rule.per_tensor
    assert found.parts["scale"].shape == (() if rule.per_tensor else (6,))
    assert not found.values[5].any()


@pytest.mark.parametrize("gptq", [False, True], ids=["nearest", "gptq"])
@pytest.mark.parametrize("rule", [ANY_SCALES, POWERS, SHARED, BOTH], ids=["any", "powers", "shared", "both"])
def test_weights_are_restored_from_their_parts(rule: ScaleRule, gptq: bool) -> None:
    found = quantized(rule, 4, gptq=gptq).quantize(4)
    again = LinearWeights(some_weights(), channel_axis=0, method="max").restore(4, found.parts)
    assert torch.equal(again.values, found.values)
    assert again.codes is not None
    assert again.codes.scale.shape == (6,)


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_the_better_of_the_neighbouring_powers_is_taken(bits: int) -> None:
    weight = some_weights()[:5]
    free, chosen = (LinearWeights(weight, channel_axis=0, method="mse", scales=rule) for rule in (ANY_SCALES, POWERS))
    start, found = free.quantize(bits).codes, chosen.quantize(bits)
    assert start is not None
    error = (found.values - weight).square().flatten(1).sum(dim=1)
    for scale in powers_around(start.scale):
        grid = scale.reshape(-1, 1, 1, 1)
        steps = 2 ** (bits - 1) - 1
        other = (weight / grid).round().clamp(-steps, steps) * grid - weight
        assert bool((error <= other.square().flatten(1).sum(dim=1) * (1 + 1e-5)).all())


def test_powers_of_two_stay_as_they_are() -> None:
    lower, upper = powers_around(torch.tensor([0.25, 1.0, 3.0, 1e-40]))
    assert lower.tolist() == [0.25, 1.0, 2.0, 2.0**-126]
    assert upper.tolist() == [0.5, 2.0, 4.0, 2.0**-125]


def skewed() -> Histogram:
    x = torch.randn(4096, generator=torch.Generator().manual_seed(2))
    return build_histogram([torch.nn.functional.silu(x)])


@pytest.mark.parametrize("method", ["mse", "max", "kl"])
@pytest.mark.parametrize("zero_points", ["auto", "none"])
def test_scales_of_activations_are_powers_of_two(method: str, zero_points: str) -> None:
    for histogram in (skewed(), build_histogram([torch.rand(1024) * 3]), build_histogram([torch.zeros(4)])):
        found = activation_quantizers(
            histogram,
            method=method,  # type: ignore[arg-type]
            zero_points=zero_points,  # type: ignore[arg-type]
            power_of_two=True,
        )
        for quantizer in found.values():
            assert are_powers_of_two(torch.tensor(quantizer.scale))
            assert quantizer.zero_point == 0 or zero_points == "auto"


@pytest.mark.parametrize(("values", "scale", "power"), [((1.0, 2.0, 3.0), 1.25, 1.0), ((2.0, 4.0, 6.0), 1.5, 2.0)])
def test_power_of_two_is_that_next_to_the_scale_with_less_error(
    values: tuple[float, ...], scale: float, power: float
) -> None:
    assert _power_of_two(build_histogram([torch.tensor(values)]), scale, IntegerRange(2, signed=False)) == power


def test_rows_are_scaled_so_that_the_slope_of_their_outputs_is_one() -> None:
    """Rounded to 0.8 of its weight, away from zero by 4, to the other sign, and without weight."""
    rows, rounded = torch.tensor([[[1.0], [1.0], [1.0], [0.0]]]), torch.tensor([[[0.8], [4.0], [-1.0], [1.0]]])
    covariance = torch.ones(1, 1, 1)
    assert _shrinkage(rows, rounded, covariance, ANY_SCALES).tolist() == [pytest.approx([1.25, 0.5, 1.0, 1.0])]
    # All together: 3 of energy, of which 3.8 is kept.
    shared = _shrinkage(rows, rounded, covariance, SHARED)
    assert shared.tolist() == [pytest.approx(4 * [3 / 3.8])]


def test_zero_points_with_powers_of_two_are_fitted_together() -> None:
    free, powers = (affine_fits(skewed(), signed=True, power_of_two=demanded) for demanded in (False, True))
    assert powers[4].zero_point != 0
    for bits in range(2, 9):
        assert free[bits].error <= powers[bits].error * (1 + 1e-3)
        assert powers[bits].error < 4 * free[bits].error


@pytest.mark.parametrize(
    ("target", "name", "tensor", "message"),
    [
        ("finn", "a.b.input.zero_point", torch.tensor(3), "input quantizer of layer 'a.b' has a zero point"),
        ("hls4ml", "a.weight.scale", torch.tensor([0.5, 0.25]), "weight quantizer of layer 'a' has a scale for each"),
        ("hls4ml", "a.weight.scale", torch.tensor(0.3), "has scales that are no powers of two"),
        ("imx500", "a.input.scale", torch.tensor(0.3), "has a scale that is no power of two"),
    ],
)
def test_quantizers_that_break_a_rule_are_refused(target: str, name: str, tensor: Tensor, message: str) -> None:
    with pytest.raises(UserError, match=message):
        require_legal_quantizers(load_target(target), {name: tensor})
    require_legal_quantizers(load_target("tflm"), {name: tensor})
    require_legal_quantizers(None, {name: tensor})

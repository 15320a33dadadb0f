"""Adaptive quantizer: gradients, training, export, and constant or zero inputs."""

from copy import deepcopy

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional

from haq.quantization.adaptive import AdaptiveQuantizer
from haq.quantization.affine import Shift, affine_fits
from haq.quantization.histogram import build_histogram
from haq.quantization.linear import quantize_weight

KINDS: tuple[Shift, ...] = ("none", "integer", "float")
Array = NDArray[np.float64]


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def silu() -> Tensor:
    return functional.silu(gaussian(128, 128))


def ratio_db(quantizer: AdaptiveQuantizer, x: Tensor) -> float:
    with torch.no_grad():
        return float(10 * torch.log10(x.square().mean() / (quantizer(x) - x).square().mean()))


def learn(quantizer: AdaptiveQuantizer, x: Tensor, *, steps: int = 200) -> None:
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        (quantizer(x) - x).square().mean().backward()
        optimizer.step()
        schedule.step()


def started(
    scale: float, zero_point: float, *, bits: int = 3, signed: bool = False, shift: Shift = "integer"
) -> AdaptiveQuantizer:
    quantizer = AdaptiveQuantizer(bits, shift=shift, batch_axis=None)
    quantizer.start_at(torch.tensor(scale), torch.tensor(zero_point), signed=signed)
    return quantizer


def test_quantizers_have_four_bits_unless_told_otherwise() -> None:
    assert AdaptiveQuantizer().bits == 4


def test_forward_and_codes_equal_values_by_hand() -> None:
    quantizer = started(0.5, 2.0)
    x = torch.tensor([-3.0, -0.3, 0.25, 0.75, 9.0])
    assert quantizer.codes(x).tolist() == [0, 1, 2, 4, 7]  # 0.5 and 1.5 steps go to the even code
    assert quantizer(x).tolist() == [-1, -0.5, 0, 1, 2.5]
    assert (quantizer.scale.item(), quantizer.zero_point.item()) == (0.5, 2)


def test_gradients_equal_values_by_hand() -> None:
    quantizer = started(0.5, 2.0)
    x = torch.tensor([-3.0, -0.3, 0.7, 9.0], requires_grad=True)
    quantizer(x).backward(torch.tensor([1.0, 10.0, 100.0, 1000.0]))
    factor = (4 * 7) ** -0.5
    assert quantizer.raw_scale is not None
    assert quantizer.raw_scale.grad is not None
    assert quantizer.shift is not None
    assert quantizer.shift.grad is not None
    assert x.grad is not None
    assert x.grad.tolist() == [0, 10, 100, 0]
    # Steps from zero: -2 and 5 where clipped; -0.6 and 1.4 steps are rounded by -0.4 and -0.4.
    assert quantizer.raw_scale.grad.item() == pytest.approx(factor * (-2 - 4 - 40 + 5000))
    assert quantizer.shift.grad.item() == pytest.approx(factor * (1 + 1000))


def reference(
    x: Array, grad: Array, *, scale: Array, shift: Array, start: Array, codes: tuple[int, int], kind: Shift
) -> tuple[Array, Array, Array, Array]:
    """Return x_hat and the gradients to x, scale and shift for every value; parameters broadcast to the shape of x."""
    x_hat, to_x, to_scale, to_shift = (np.zeros_like(x) for _ in range(4))
    for place in np.ndindex(x.shape):
        s, b, first = scale[place], shift[place], start[place]
        zero_point = min(max(first - round(b / s), codes[0]), codes[1]) if kind == "integer" else first
        offset = b if kind == "float" else 0.0
        low, high = codes[0] - zero_point, codes[1] - zero_point
        u = (x[place] - offset) / s
        inside = low <= u <= high
        level = round(u) if inside else (low if u < low else high)
        x_hat[place] = s * level + offset
        to_x[place] = grad[place] * inside
        to_scale[place] = grad[place] * (level - u if inside else level)
        moved = (x[place] - b) / s + first  # the code before rounding on the grid moved by all of the shift
        clipped = not inside and not codes[0] <= moved <= codes[1]
        to_shift[place] = grad[place] * {"none": 0, "integer": clipped, "float": not inside}[kind]
    return x_hat, to_x, to_scale, to_shift


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("axis", [None, 1])
def test_gradients_equal_reference_implementation(kind: Shift, signed: bool, axis: int | None) -> None:
    x, grad = (gaussian(6, 3, 7, seed=seed).double() for seed in (1, 2))
    shape = [] if axis is None else [3]
    quantizer = AdaptiveQuantizer(3, channel_axis=axis, shift=kind)
    scale = torch.full(shape, 0.3) + 0.1 * torch.arange(max(1, len(shape) * 3)).reshape(shape or [])
    start = torch.full(shape, -2.0 if signed else 2.0)
    quantizer.start_at(scale, start, signed=signed)
    quantizer.double()
    if quantizer.shift is not None:
        quantizer.shift.data.fill_(0.37)
    x.requires_grad_()
    x_hat = quantizer(x)
    x_hat.backward(grad)

    def along(value: Tensor) -> Array:
        return value.detach().double().reshape([-1, 1] if shape else []).expand(6, 3, 7).numpy()

    shift = torch.zeros(shape) if quantizer.shift is None else quantizer.shift
    expected, to_x, to_scale, to_shift = reference(
        x.detach().numpy(),
        grad.numpy(),
        scale=along(quantizer.scale),
        shift=along(shift),
        start=along(start),
        codes=(-4, 3) if signed else (0, 7),
        kind=kind,
    )
    factor = ((7 if shape else 21) * (3 if signed else 7)) ** -0.5
    others = (0, 2) if shape else None
    assert x.grad is not None
    assert quantizer.raw_scale is not None
    assert quantizer.raw_scale.grad is not None
    np.testing.assert_allclose(x_hat.detach().numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(x.grad.numpy(), to_x)
    np.testing.assert_allclose(quantizer.raw_scale.grad.numpy(), factor * to_scale.sum(axis=others), rtol=1e-9)
    if quantizer.shift is not None:
        assert quantizer.shift.grad is not None
        np.testing.assert_allclose(quantizer.shift.grad.numpy(), factor * to_shift.sum(axis=others), atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_equal_finite_differences(kind: Shift) -> None:
    # With what rounding adds to each value held constant, quantizing is smooth but for the edges of the grid.
    x = gaussian(500, seed=3).double()
    quantizer = started(0.4, -1.0, signed=True, shift=kind).double()
    s, b, low, high = 0.4, 0.0, -3, 4
    u = np.clip((x.numpy() - b) / s, low, high)
    rounding = np.round(u) - u

    def smooth(values: Array, scale: float, shift: float) -> Array:
        return np.asarray(scale * (np.clip((values - shift) / scale, low, high) + rounding) + shift)

    weights, eps = gaussian(500, seed=4).double(), 1e-7
    inputs = x.clone().requires_grad_()
    quantizer(inputs).backward(weights)
    np.testing.assert_allclose(quantizer(x).detach().numpy(), smooth(x.numpy(), s, b), atol=1e-12)
    factor = (500 * 3) ** -0.5
    to_scale = weights.numpy() @ (smooth(x.numpy(), s + eps, b) - smooth(x.numpy(), s - eps, b)) / (2 * eps)
    to_shift = weights.numpy() @ (smooth(x.numpy(), s, b + eps) - smooth(x.numpy(), s, b - eps)) / (2 * eps)
    to_x = weights.numpy() * (smooth(x.numpy() + eps, s, b) - smooth(x.numpy() - eps, s, b)) / (2 * eps)
    assert quantizer.raw_scale is not None
    assert quantizer.raw_scale.grad is not None
    assert inputs.grad is not None
    assert quantizer.raw_scale.grad.item() == pytest.approx(factor * to_scale, rel=1e-5)
    np.testing.assert_allclose(inputs.grad.numpy(), to_x, atol=1e-5)
    if quantizer.shift is not None:
        assert quantizer.shift.grad is not None
        assert quantizer.shift.grad.item() == pytest.approx(factor * to_shift, rel=1e-5)


@pytest.mark.parametrize(
    ("shape", "channel_axis", "batch_axis", "elements"),
    [
        ((8, 3, 5), None, 0, 15),
        ((8, 3, 5), 1, 0, 5),
        ((8, 3, 5), 0, 0, 15),
        ((8, 3, 5), 1, None, 40),
        ((8, 3, 5), None, None, 120),
        ((8, 3, 5), -1, 1, 8),
    ],
)
def test_gradient_factor_excludes_batch(
    shape: tuple[int, ...], channel_axis: int | None, batch_axis: int | None, elements: int
) -> None:
    quantizer = AdaptiveQuantizer(4, signed=False, channel_axis=channel_axis, batch_axis=batch_axis)
    channels = [] if channel_axis is None else [shape[channel_axis]]
    quantizer.start_at(torch.ones(channels), torch.zeros(channels), signed=False)
    quantizer(torch.full(shape, 20.0)).sum().backward()
    assert quantizer.raw_scale is not None
    assert quantizer.raw_scale.grad is not None
    share = np.prod(shape) / max(1, *channels, 1)  # each value is clipped to 15 steps
    assert quantizer.raw_scale.grad.flatten()[0].item() == pytest.approx(15 * share * (elements * 15) ** -0.5)


@pytest.mark.parametrize(("zero_point", "code"), [(-0.5, 0), (7.5, 7)])
def test_zero_points_up_to_half_a_code_outside_are_rounded_into_the_codes(zero_point: float, code: int) -> None:
    assert started(0.5, zero_point).zero_point.item() == code
    with pytest.raises(ValueError, match=r"zero points must lie in 0\.\.7"):
        started(0.5, zero_point + (0.01 if code else -0.01))


@pytest.mark.parametrize("shift", KINDS)
def test_exported_operations_give_the_same_values(monkeypatch: pytest.MonkeyPatch, shift: Shift) -> None:
    """A float shift of 0.25 steps moves all values of the grid by 0.125."""
    quantizer = started(0.5, 2.25, shift=shift)
    x = torch.tensor([-3.0, -0.3, 0.2, 0.7, 9.0])
    expected = quantizer(x).tolist()
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assert quantizer(x).tolist() == expected
    assert expected[-1] == (2.5 - 0.125 if shift == "float" else 2.5)


@pytest.mark.parametrize("off", [-1, 1])
def test_zero_point_one_code_off_is_corrected_by_training(off: int) -> None:
    x = silu()
    quantizer = AdaptiveQuantizer(4)
    quantizer.calibrate(x)
    best, at_best = quantizer.zero_point.item(), ratio_db(quantizer, x)
    quantizer.start_at(quantizer.scale.detach(), quantizer.zero_point + off, signed=True)
    assert ratio_db(quantizer, x) < at_best - 0.1
    learn(quantizer, x)
    assert quantizer.zero_point.item() == best
    assert ratio_db(quantizer, x) > at_best - 0.1


@pytest.mark.parametrize(("bits", "gain_db"), [(2, 3.5), (3, 4.5), (4, 4.0)])
def test_zero_point_is_learned_from_plain_grid(bits: int, gain_db: float) -> None:
    x = silu()
    plain = affine_fits(build_histogram([x]), signed=True, shift="none", bits=(bits,))[bits]
    quantizer = started(plain.scale, 0.0, bits=bits, signed=True)
    before = ratio_db(quantizer, x)
    learn(quantizer, x, steps=400)
    assert ratio_db(quantizer, x) > before + gain_db


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [2, 4])
def test_training_stays_at_optimal_initialization(kind: Shift, bits: int) -> None:
    x = silu()
    quantizer = AdaptiveQuantizer(bits, shift=kind)
    quantizer.calibrate(x)
    before = ratio_db(quantizer, x)
    learn(quantizer, x)
    assert ratio_db(quantizer, x) > before - 0.2


def test_task_loss_moves_scale_from_least_squared_error() -> None:
    # The next layer looks at large values only, so that fine steps near zero are worth nothing to it.
    x = silu()
    quantizer = AdaptiveQuantizer(2)
    quantizer.calibrate(x)

    def loss() -> Tensor:
        return ((quantizer(x) - x).square() * (x > 1.5)).mean()

    before = loss().item()
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < 0.6 * before


@pytest.mark.parametrize("way", [-0.49, 0.49, 0.51, 1.7, -40.0])
def test_round_shift_gives_whole_codes_and_keeps_zero_point(way: float) -> None:
    quantizer = started(0.3, 2.0)
    assert quantizer.shift is not None
    quantizer.shift.data.fill_(way * 0.3)
    x = gaussian(50)
    before = quantizer(x)
    quantizer.round_shift()
    assert torch.equal(quantizer(x), before)
    assert quantizer.shift.item() / 0.3 == pytest.approx(round(way), abs=1e-5)


@pytest.mark.parametrize("kind", ["none", "float"])
def test_round_shift_changes_integer_shift_only(kind: Shift) -> None:
    quantizer = started(0.3, 2.0, shift=kind)
    if quantizer.shift is not None:
        quantizer.shift.data.fill_(0.1)
    quantizer.round_shift()
    assert quantizer.shift is None or quantizer.shift.item() == pytest.approx(0.1)


def onnx_codes(x: Tensor, quantizer: AdaptiveQuantizer) -> Array:
    """The codes of onnxruntime's QuantizeLinear, clipped to the bits."""
    kind = np.int8 if quantizer.signed else np.uint8
    tensors = {
        "scale": quantizer.scale.detach().numpy(),
        "zero_point": quantizer.zero_point.numpy().astype(kind),
        "low": np.array(quantizer.grid.q_min, kind),
        "high": np.array(quantizer.grid.q_max, kind),
    }
    axis = {} if quantizer.channel_axis is None else {"axis": quantizer.channel_axis}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero_point"], ["q"], **axis),
        helper.make_node("Clip", ["q", "low", "high"], ["codes"]),
    ]
    graph = helper.make_graph(
        nodes,
        "quantize",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(x.shape))],
        [helper.make_tensor_value_info("codes", helper.np_dtype_to_tensor_dtype(np.dtype(kind)), list(x.shape))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x.numpy()})[0])


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("axis", [None, 1])
def test_codes_equal_onnxruntime(bits: int, axis: int | None) -> None:
    x = functional.silu(gaussian(40, 4, 300) * 2)
    quantizer = AdaptiveQuantizer(bits, signed=bool(bits % 2), channel_axis=axis)
    quantizer.calibrate(x)
    scale = quantizer.scale.detach().reshape(-1)
    x[0] = (torch.arange(300) - 40.5) * scale[:1, None]  # ties
    assert np.array_equal(onnx_codes(x, quantizer), quantizer.codes(x).numpy())


@pytest.mark.parametrize("kind", KINDS)
def test_forward_equals_dequantized_codes(kind: Shift) -> None:
    x = silu()
    quantizer = AdaptiveQuantizer(4, shift=kind)
    quantizer.calibrate(x)
    learn(quantizer, x, steps=5)
    values = (quantizer.codes(x) - quantizer.zero_point) * quantizer.scale
    if kind == "float":
        assert quantizer.offset is not None
        values = values + quantizer.offset
    assert torch.equal(quantizer(x), values)


@pytest.mark.parametrize("kind", KINDS)
def test_integer_convolution_equals_training_except_at_shifted_borders(kind: Shift) -> None:
    """Codes and one bias per output equal fake quantization, except at the border with a float shift."""
    x, weight = silu().reshape(1, 1, 128, 128)[:, :, :8, :8].contiguous(), torch.tensor([[[[1.0, 2, 1]] * 3]])
    quantizer = AdaptiveQuantizer(4, shift=kind)
    quantizer.calibrate(silu())
    trained = functional.conv2d(quantizer(x), weight, padding=1)
    steps = (quantizer.codes(x) - quantizer.zero_point).to(x.dtype)  # padding with zero_point is padding these with 0
    deployed = functional.conv2d(steps, weight, padding=1) * quantizer.scale
    offset = 0.0 if quantizer.offset is None else quantizer.offset.item()
    difference = deployed + offset * 12 - trained  # 12 is the sum of the weights: the offset, folded into a bias
    assert difference[..., 1:-1, 1:-1].abs().max() < 1e-5
    # Three of the nine taps of an edge, 4 of 12 by weight at the top, meet padding, which is the offset by the bias.
    assert difference[0, 0, 0, 1:-1].detach().numpy() == pytest.approx(4 * offset, abs=1e-5)
    assert (difference.abs().max() > 0.01) == (kind == "float")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("axis", [None, 0])
def test_state_dict_round_trip(kind: Shift, axis: int | None) -> None:
    x = silu()[:3]
    quantizer = AdaptiveQuantizer(3, channel_axis=axis, shift=kind)
    quantizer.calibrate(x)
    learn(quantizer, x, steps=3)
    fresh = nn.Sequential(AdaptiveQuantizer(3, channel_axis=axis, shift=kind))
    fresh.load_state_dict(load(save(nn.Sequential(quantizer).state_dict())))
    assert torch.equal(fresh(x), quantizer(x))
    assert {name for name, _ in fresh.named_parameters()} == {f"0.{name}" for name, _ in quantizer.named_parameters()}


def test_loading_state_dict_keeps_parameter_objects() -> None:
    quantizer = AdaptiveQuantizer(4)
    quantizer.calibrate(silu())
    known = list(quantizer.parameters())
    quantizer.load_state_dict(deepcopy(quantizer.state_dict()))
    assert all(one is other for one, other in zip(known, quantizer.parameters(), strict=True))


def test_state_dict_of_other_bits_raises() -> None:
    quantizer = AdaptiveQuantizer(4)
    quantizer.calibrate(silu())
    with pytest.raises(RuntimeError, match=r"code_range is \[-8, 7\], not that of IntegerRange\(bits=3"):
        AdaptiveQuantizer(3).load_state_dict(quantizer.state_dict())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("axis", [None, 1])
@pytest.mark.parametrize("value", [0.0, 0.7, -3.0, 1e-30])
def test_constant_and_zero_channels_are_represented(kind: Shift, axis: int | None, value: float) -> None:
    x = torch.full((4, 3), value)
    if axis is not None:
        x[:, 0] = torch.tensor([-1.0, 0.0, 1.0, 2.0])
    quantizer = AdaptiveQuantizer(4, channel_axis=axis, shift=kind)
    quantizer.calibrate(x)
    learn(quantizer, x, steps=3)
    assert all(parameter.isfinite().all() for parameter in quantizer.parameters())
    assert (quantizer.scale > 0).all()
    quantizer.calibrate(x)
    assert torch.allclose(quantizer(x), x, atol=0.15 * x.abs().max().item())


def test_scale_is_trainable_after_calibration_on_zeros() -> None:
    quantizer = AdaptiveQuantizer(4)
    quantizer.calibrate(torch.zeros(8, 16))
    assert quantizer.scale.item() == 1
    x = 40 * torch.rand(8, 16, generator=torch.Generator().manual_seed(0))
    before = ratio_db(quantizer, x)
    learn(quantizer, x)
    assert ratio_db(quantizer, x) > before + 1


@given(st.floats(-50, 50))
@settings(max_examples=30, deadline=None)
def test_scale_stays_positive_for_any_raw_scale(step: float) -> None:
    quantizer = started(0.01, 1.0)
    assert quantizer.raw_scale is not None
    with torch.no_grad():
        quantizer.raw_scale += step
    assert quantizer.scale.item() > 0
    assert quantizer(gaussian(20)).isfinite().all()


def test_weight_scales_equal_those_without_training() -> None:
    weight = gaussian(5, 4, 3, 3)
    weight[2] = 0
    quantizer = AdaptiveQuantizer(4, signed=True, channel_axis=0, shift="none", narrow=True)
    quantizer.calibrate(weight)
    fixed = quantize_weight(weight, 4)
    assert torch.equal(quantizer.codes(weight), fixed.codes.to(torch.int32))
    assert torch.equal(quantizer(weight), fixed.dequantize())


def test_calibration_from_histogram_equals_calibration_from_tensor() -> None:
    x = silu()
    one, other = AdaptiveQuantizer(4), AdaptiveQuantizer(4)
    one.calibrate(x)
    other.calibrate(build_histogram(x.split(32)))
    assert torch.equal(one(x), other(x))


def test_channels_are_calibrated_separately() -> None:
    x = torch.stack([silu(), gaussian(128, 128), 100 * silu()], dim=1)
    together, alone = AdaptiveQuantizer(4, channel_axis=1), AdaptiveQuantizer(4, signed=True)
    together.calibrate(x)
    for channel in range(3):
        alone.calibrate(x[:, channel])
        assert torch.equal(together(x)[:, channel], alone(x[:, channel]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_lower_precision_inputs_are_quantized_in_float32(dtype: torch.dtype) -> None:
    x = silu()[:4].to(dtype)
    quantizer = AdaptiveQuantizer(8)
    quantizer.calibrate(x)
    assert quantizer(x).dtype == dtype
    assert torch.equal(quantizer.codes(x), quantizer.codes(x.float()))


@pytest.mark.parametrize("kind", KINDS)
def test_compiles_to_one_graph(kind: Shift) -> None:
    x = silu()[:4].requires_grad_()
    eager = AdaptiveQuantizer(4, shift=kind)
    eager.calibrate(x)
    twin = deepcopy(eager)
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
    eager(x).square().sum().backward()
    compiled(x).square().sum().backward()
    for one, other in zip(eager.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad)


def test_invalid_use_raises() -> None:
    with pytest.raises(ValueError, match="bits must be an integer from 1 to 8, got 0"):
        AdaptiveQuantizer(0)
    with pytest.raises(RuntimeError, match="call calibrate first"):
        AdaptiveQuantizer(4)(torch.ones(1))
    with pytest.raises(ValueError, match="no values were seen"):
        AdaptiveQuantizer(4).calibrate(torch.empty(0))
    with pytest.raises(ValueError, match="give the tensor itself"):
        AdaptiveQuantizer(4, channel_axis=1).calibrate(build_histogram([torch.ones(1)]))
    with pytest.raises(ValueError, match="scales must be above 0, got -1"):
        started(-1.0, 0.0)
    with pytest.raises(ValueError, match=r"zero points must lie in 0..7, got 9"):
        started(1.0, 9.0)


def test_recalibration_determines_signedness_again() -> None:
    quantizer = AdaptiveQuantizer(4)
    for x, signed in ((silu().relu(), False), (silu(), True)):
        quantizer.calibrate(x)
        assert quantizer.signed is signed


def test_without_shift_only_scale_is_trainable() -> None:
    quantizer = started(0.25, -7.0, bits=4, signed=True, shift="none")
    learn(quantizer, silu(), steps=5)
    assert quantizer.zero_point.item() == -7
    assert quantizer.scale.item() != 0.25


def test_scales_at_powers_of_two_follow_the_gradient_of_the_unrounded_scale() -> None:
    quantizer = AdaptiveQuantizer(3, signed=True, shift="none", power_of_two=True)
    quantizer.start_at(torch.tensor(0.5), torch.tensor(0.0), signed=True)
    x, raw = torch.tensor([0.3, 9.0]), quantizer.raw_scale
    assert raw is not None
    quantizer(x).sum().backward()
    # Of 0.3 = 0.6 steps 1 - 0.6, of the clipped 9 the highest code 3; the factor is 1 / sqrt(1 * 3).
    assert raw.grad is not None
    assert raw.grad.item() == pytest.approx((0.4 + 3) / 3**0.5)
    with torch.no_grad():
        raw.fill_(0.70)  # below the geometric mean of 0.5 and 1
        assert quantizer.scale.item() == 0.5
        raw.fill_(0.72)
        assert quantizer.scale.item() == 1.0
    assert quantizer(x).tolist() == [0.0, 3.0]


def test_a_settled_scale_needs_no_rounding() -> None:
    quantizer = AdaptiveQuantizer(3, signed=True, shift="none", power_of_two=True)
    quantizer.start_at(torch.tensor(0.5), torch.tensor(0.0), signed=True)
    with torch.no_grad():
        quantizer.raw_scale.mul_(0.3)  # type: ignore[union-attr]
    expected = quantizer.scale.item()
    quantizer.settle_scale()
    free = AdaptiveQuantizer(3, signed=True, shift="none")
    free.load_state_dict(quantizer.state_dict())
    assert free.scale.item() == quantizer.scale.item() == expected == 0.125

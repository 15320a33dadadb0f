"""Integer ranges and quantizer arithmetic, compared with onnxruntime."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch import Tensor

from haq.quantization.range import IntegerRange, dequantize, fake_quantize, quantize, round_half_even

FLOATS = st.floats(-1e3, 1e3, width=32)
VALUES = st.lists(FLOATS, min_size=1, max_size=30).map(lambda x: torch.tensor(x, dtype=torch.float32))
SCALES = st.floats(2**-10, 2**4, width=32).map(lambda x: torch.tensor(x, dtype=torch.float32))
RANGES = st.builds(IntegerRange, st.integers(1, 8), signed=st.booleans(), narrow=st.booleans())


@pytest.mark.parametrize(
    ("bits", "signed", "narrow", "q_min", "q_max", "steps"),
    [
        (8, True, True, -127, 127, 127),
        (8, True, False, -128, 127, 127),
        (8, False, False, 0, 255, 255),
        (2, True, True, -1, 1, 1),
        (2, True, False, -2, 1, 1),
        (1, False, False, 0, 1, 1),
        (1, True, False, -1, 0, 1),
        (1, True, True, -1, 0, 1),
    ],
)
def test_bounds(bits: int, signed: bool, narrow: bool, q_min: int, q_max: int, steps: int) -> None:
    grid = IntegerRange(bits, signed=signed, narrow=narrow)
    assert (grid.q_min, grid.q_max, grid.steps) == (q_min, q_max, steps)


@pytest.mark.parametrize("bits", [0, 9, -1, 2.5])
def test_bits_outside_range_raise(bits: float) -> None:
    with pytest.raises(ValueError, match=r"from 1 to 8, got"):
        IntegerRange(bits, signed=True)  # type: ignore[arg-type]


@given(RANGES)
def test_range_has_at_most_two_to_the_bits_codes(grid: IntegerRange) -> None:
    assert 2 <= grid.q_max - grid.q_min + 1 <= 2**grid.bits
    assert grid.q_min <= 0 <= grid.q_max


@given(VALUES, SCALES, RANGES, st.data())
def test_fake_quantize_equals_dequantized_codes_and_is_idempotent(
    x: Tensor, scale: Tensor, grid: IntegerRange, data: st.DataObject
) -> None:
    zero_point = data.draw(st.integers(grid.q_min, grid.q_max))
    codes = quantize(x, scale, zero_point, grid.q_min, grid.q_max)
    once = fake_quantize(x, scale, zero_point, grid.q_min, grid.q_max)
    assert codes.dtype == torch.int32
    assert codes.min() >= grid.q_min
    assert codes.max() <= grid.q_max
    assert torch.equal(once, dequantize(codes, scale, zero_point))
    assert torch.equal(fake_quantize(once, scale, zero_point, grid.q_min, grid.q_max), once)


@given(VALUES, SCALES, RANGES)
def test_error_is_at_most_half_a_step_inside_the_clip(x: Tensor, scale: Tensor, grid: IntegerRange) -> None:
    low, high = grid.q_min * scale, grid.q_max * scale
    error = (fake_quantize(x, scale, 0, grid.q_min, grid.q_max) - x.clamp(low, high)).abs()
    assert (error <= scale / 2 * (1 + 1e-5)).all()


@given(VALUES, SCALES, RANGES)
def test_gradient_is_one_inside_and_zero_outside_the_clip(x: Tensor, scale: Tensor, grid: IntegerRange) -> None:
    leaf = x.clone().requires_grad_()
    fake_quantize(leaf, scale, 0, grid.q_min, grid.q_max).sum().backward()
    steps = x / scale
    inside = (steps > grid.q_min) & (steps < grid.q_max)
    at_edge = (steps == grid.q_min) | (steps == grid.q_max)
    assert leaf.grad is not None
    assert torch.allclose(leaf.grad[~at_edge], inside[~at_edge].float(), rtol=1e-6)


def test_scale_gradient_equals_lsq() -> None:
    x = torch.tensor([0.6, -0.3, 5.0, -5.0], dtype=torch.float64)
    scale = torch.ones(4, dtype=torch.float64, requires_grad=True)
    fake_quantize(x, scale, 0, -2, 3).sum().backward()
    assert scale.grad is not None
    # round(0.6) - 0.6, round(-0.3) + 0.3, and the two bounds
    assert scale.grad.tolist() == pytest.approx([0.4, 0.3, 3.0, -2.0])


def test_rounding_is_half_to_even_with_a_straight_through_gradient() -> None:
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5], requires_grad=True)
    rounded = round_half_even(x)
    rounded.sum().backward()
    assert rounded.tolist() == [0, 2, 2, 0, -2]
    assert x.grad is not None
    assert x.grad.tolist() == [1] * 5


def test_ties_are_rounded_before_the_zero_point_is_added() -> None:
    # 0.5 rounds to 0, then 0 + 1; rounding 1.5 would give 2.
    assert quantize(torch.tensor([0.5]), torch.tensor(1.0), 1, 0, 7).item() == 1


def test_scale_and_zero_point_broadcast_over_channels() -> None:
    x = torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    scale, zero_point = torch.tensor([[1.0], [0.5]]), torch.tensor([[0], [1]])
    codes = quantize(x, scale, zero_point, 0, 4)
    assert codes.tolist() == [[1, 2], [3, 4]]
    assert dequantize(codes, scale, zero_point).tolist() == [[1.0, 2.0], [1.0, 1.5]]


def test_int8_codes_do_not_overflow_when_dequantized() -> None:
    codes = torch.tensor([-128], dtype=torch.int8)
    assert dequantize(codes, torch.tensor(1.0), torch.tensor(127, dtype=torch.int8)).item() == -255


def test_scale_on_another_device_raises() -> None:
    with pytest.raises(ValueError, match="scale lies on meta"):
        quantize(torch.ones(2), torch.ones((), device="meta"), 0, 0, 1)


def _onnx_round_trip(kind: int) -> onnxruntime.InferenceSession:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("scale", TensorProto.FLOAT, []),
        helper.make_tensor_value_info("zero", kind, []),
    ]
    outputs = [
        helper.make_tensor_value_info("q", kind, ["n"]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"]),
    ]
    graph = helper.make_graph(nodes, "round_trip", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    ("kind", "dtype", "signed"), [(TensorProto.UINT8, np.uint8, False), (TensorProto.INT8, np.int8, True)]
)
@pytest.mark.parametrize(("scale", "zero_point"), [(0.1, 0), (0.1, 5), (0.0078125, 77), (1 / 3, -3), (2.0, 1)])
def test_codes_and_values_equal_onnxruntime(
    kind: int, dtype: type[np.generic], signed: bool, scale: float, zero_point: int
) -> None:
    grid = IntegerRange(8, signed=signed)
    zero_point = max(zero_point, grid.q_min)
    step = torch.tensor(scale)
    generator = torch.Generator().manual_seed(0)
    ties = (torch.arange(-300, 300) + 0.5) * step
    x = torch.cat([torch.randn(20_000, generator=generator) * 100 * step, ties, torch.tensor([1e6, -1e6, -0.0])])
    feed = {"x": x.numpy(), "scale": step.numpy(), "zero": np.array(zero_point, dtype)}
    codes, values = _onnx_round_trip(kind).run(None, feed)
    assert np.array_equal(quantize(x, step, zero_point, grid.q_min, grid.q_max).numpy(), codes)
    assert np.array_equal(fake_quantize(x, step, zero_point, grid.q_min, grid.q_max).numpy(), values)

"""Integer ranges and quantizer arithmetic: rounding, quantize, dequantize, fake_quantize.

Everywhere value = (q - zero_point) * scale. The arithmetic is that of ONNX QuantizeLinear and DequantizeLinear in
float32: divide, round half to even, add the zero point, clamp. Multiplying by 1 / scale, or adding the zero point
before rounding, would give other codes at ties.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

MAX_BITS = 8
"""Largest bit width of a quantizer."""
_FULL_BITS = 3
ALL_BITS = range(1, MAX_BITS + 1)
"""All bit widths of quantizers, 1 to 8."""


@dataclass(frozen=True, slots=True)
class IntegerRange:
    """Range q_min..q_max of the integer codes of a bit width.

    One signed bit has the two's complement codes -1 and 0, narrow or not, so that zero stays exact and nothing divides
    by zero.

    Attributes:
        bits: Bit width, 1 to 8.
        signed: Whether the range includes negative codes.
        narrow: Whether the lowest signed code is left out, which makes the range symmetric (HAQ, Wang et al. 2019).

    Raises:
        ValueError: `bits` is outside 1..8.

    Examples:
        >>> IntegerRange(4, signed=True, narrow=True)
        IntegerRange(bits=4, signed=True, narrow=True)
        >>> [(r.q_min, r.q_max) for r in (IntegerRange(4, signed=True), IntegerRange(4, signed=False))]
        [(-8, 7), (0, 15)]
    """

    bits: int
    signed: bool
    narrow: bool = False

    def __post_init__(self) -> None:
        if self.bits not in ALL_BITS:
            raise ValueError(f"bits must be an integer from 1 to {MAX_BITS}, got {self.bits!r}")

    @property
    def q_min(self) -> int:
        """Lowest code."""
        if not self.signed:
            return 0
        return -(1 << self.bits - 1) + (self.narrow and self.bits > 1)

    @property
    def q_max(self) -> int:
        """Highest code."""
        return (1 << self.bits - self.signed) - 1

    @property
    def steps(self) -> int:
        """Number of steps between zero and the clip: scale = clip / steps."""
        return max(self.q_max, 1)


def weight_range(bits: int) -> IntegerRange:
    """Return the range of the codes of weights.

    It is symmetric from 4 bits up, as in HAQ. Below, every code counts: at 2 bits the levels -2 to 1 have 1 dB less
    error of Gaussian weights than -1 to 1.

    Args:
        bits: Bit width, 1 to 8.

    Returns:
        The range.

    Examples:
        >>> [(weight_range(bits).q_min, weight_range(bits).q_max) for bits in (2, 3, 4)]
        [(-2, 1), (-4, 3), (-7, 7)]
    """
    return IntegerRange(bits, signed=True, narrow=bits > _FULL_BITS)


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        return x.round()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # noqa: ARG004
        return grad


def round_half_even(x: Tensor) -> Tensor:
    """Round to the nearest integer, ties to even, with a straight-through gradient.

    Args:
        x: Floats of any shape.

    Returns:
        Whole numbers in the shape and dtype of x; the gradient to x is that to the result, unchanged.

    Examples:
        >>> round_half_even(torch.tensor([0.5, 1.5, -2.5])).tolist()
        [0.0, 2.0, -2.0]
    """
    return cast(Tensor, _Round.apply(x))


def nearest_power_of_two(scale: Tensor) -> Tensor:
    """Round scales to powers of two on a logarithmic axis, with the gradient of the identity.

    Args:
        scale: Scales above 0, of any shape.

    Returns:
        The powers, in the shape of `scale`.

    Examples:
        >>> nearest_power_of_two(torch.tensor([0.25, 0.35, 0.36, 5.7])).tolist()
        [0.25, 0.25, 0.5, 8.0]
    """
    plain = scale.detach()
    exponent = plain.log2().round().to(torch.int32)
    return torch.ldexp(torch.ones_like(plain), exponent) + (scale - plain)


def quantize(x: Tensor, scale: Tensor, zero_point: Tensor | int, q_min: int, q_max: int) -> Tensor:
    """Quantize values to integer codes: clamp(round(x / scale) + zero_point, q_min, q_max).

    Args:
        x: Values of any shape.
        scale: Step size, above 0; broadcasts against x.
        zero_point: Code of zero; broadcasts against x.
        q_min: Lowest code.
        q_max: Highest code.

    Returns:
        Codes, int32, in the shape of x.

    Raises:
        ValueError: `scale` is on another device than x. A GPU divides by a number of the host by multiplying with its
            reciprocal, which gives other codes at ties.

    Examples:
        >>> quantize(torch.tensor([-1.0, 0.25, 0.75, 9.0]), torch.tensor(0.5), 1, 0, 3).tolist()
        [0, 1, 3, 3]
    """
    _check_device(x, scale)
    return torch.clamp(torch.round(x / scale) + zero_point, q_min, q_max).to(torch.int32)


def dequantize(q: Tensor, scale: Tensor, zero_point: Tensor | int) -> Tensor:
    """Convert integer codes back to values: (q - zero_point) * scale.

    Args:
        q: Integer codes of any shape.
        scale: Step size; broadcasts against q.
        zero_point: Code of zero; broadcasts against q.

    Returns:
        Values in the shape of q and the dtype of `scale`.

    Examples:
        >>> dequantize(torch.tensor([0, 1, 3]), torch.tensor(0.5), 1).tolist()
        [-0.5, 0.0, 1.0]
    """
    # Codes change type first: int8 minus int8 could overflow.
    return (q.to(scale.dtype) - zero_point) * scale


def fake_quantize(x: Tensor, scale: Tensor, zero_point: Tensor | int, q_min: int, q_max: int) -> Tensor:
    """Quantize and dequantize in floating point, with a straight-through gradient.

    The gradient to x is 1 where u = x / scale lies between q_min - zero_point and q_max - zero_point, and 0 outside.
    The gradient to `scale` is that of LSQ (Esser et al. 2020): round(u) - u inside, q_min - zero_point or q_max -
    zero_point outside.

    Args:
        x: Values of any shape.
        scale: Step size, above 0; broadcasts against x.
        zero_point: Code of zero; broadcasts against x.
        q_min: Lowest code.
        q_max: Highest code.

    Returns:
        Values on the grid, in the shape of x.

    Raises:
        ValueError: `scale` is on another device than x.

    Examples:
        >>> fake_quantize(torch.tensor([0.3, 0.75, 9.0]), torch.tensor(0.5), 0, 0, 3).tolist()
        [0.5, 1.0, 1.5]
    """
    _check_device(x, scale)
    # Bounds are integers, so clamping before rounding gives the same codes; the gradient outside is then 0.
    bounds: Any = (q_min - zero_point, q_max - zero_point)  # two numbers or two tensors, as clamp takes them
    steps = x / scale
    if torch.is_grad_enabled():
        return round_half_even(torch.clamp(steps, *bounds)) * scale
    return (
        steps.clamp_(*bounds).round_().mul_(scale)
    )  # in place: on large tensors new memory costs more than arithmetic


def align_channels(values: Tensor, ndim: int, axis: int | None) -> Tensor:
    """Reshape per-channel values so that they broadcast along one axis of a tensor.

    Args:
        values: Tensor [channels], or [] if `axis` is None.
        ndim: Number of dimensions of the tensor.
        axis: Axis of the channels; None for values that all channels share.

    Returns:
        The values with `ndim` dimensions; unchanged if `axis` is None.

    Examples:
        >>> align_channels(torch.ones(8), 4, 1).shape
        torch.Size([1, 8, 1, 1])
    """
    return values if axis is None else values.reshape([-1 if dim == axis % ndim else 1 for dim in range(ndim)])


def _check_device(x: Tensor, scale: Tensor) -> None:
    if scale.device != x.device:
        raise ValueError(f"scale lies on {scale.device}, values on {x.device}; move scale there")

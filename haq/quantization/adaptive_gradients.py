"""Fake quantization with learnable scale and shift, as an autograd function.

Forward and backward are written out: they need a third of the passes over a tensor that automatic differentiation
makes, and these passes are what training spends on quantizers.

Gradients as in LSQ (Esser et al., "Learned Step Size Quantization", 2020) and LSQ+ (Bhalgat et al., 2020).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from haq.quantization.range import IntegerRange

Bound = float | Tensor
"""Bound of a grid in steps: one for the tensor, or a tensor that broadcasts against the values."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LearnedGrid:
    """Bounds of a quantization grid, without its scale and shift; tensors broadcast against the values.

    Attributes:
        low: Lowest code minus the zero point.
        high: Highest code minus the zero point.
        shift_low: Lower bound, in the same units, below which values contribute to the gradient of an integer shift;
            None if the shift is an offset of the values.
        shift_high: The same, upper bound.
        factor: Multiplier of the gradients to scale and shift.
        is_centered: Whether an offset is left out of the result. Its gradient is that of the result with the offset.
    """

    low: Bound
    high: Bound
    shift_low: Bound | None = None
    shift_high: Bound | None = None
    factor: float
    is_centered: bool = False


def learned_grid(
    codes: IntegerRange,
    zero_point: Tensor,
    *,
    unrounded: Tensor | None,
    factor: float,
    in_numbers: bool,
    is_centered: bool = False,
) -> LearnedGrid:
    """Build a grid, with the bounds outside which values contribute to the gradient of an integer shift.

    These are the wider ones of the grid as it is and the grid displaced by the unrounded shift.

    Args:
        codes: Range of the codes.
        zero_point: Code of zero, broadcasts against the values.
        unrounded: The zero point with the unrounded integer shift, in the same shape; None without an integer shift.
        factor: Multiplier of the gradients to scale and shift.
        in_numbers: Whether the bounds become Python numbers, which takes tensors of one element on the CPU.
        is_centered: Whether an offset is left out of the result.

    Returns:
        The grid.
    """

    def bound(code: int, zero: Tensor) -> Bound:
        return code - zero.item() if in_numbers else code - zero

    widest = (None, None) if unrounded is None else (zero_point.maximum(unrounded), zero_point.minimum(unrounded))
    return LearnedGrid(
        low=bound(codes.q_min, zero_point),
        high=bound(codes.q_max, zero_point),
        shift_low=None if widest[0] is None else bound(codes.q_min, widest[0]),
        shift_high=None if widest[1] is None else bound(codes.q_max, widest[1]),
        factor=factor,
        is_centered=is_centered,
    )


def learned_fake_quantize(x: Tensor, scale: Tensor, shift: Tensor | None, grid: LearnedGrid) -> Tensor:
    """Compute round(clamp(u, low, high)) * scale with u = x / scale.

    A shift that is an offset is subtracted from x first and added to the result, unless the grid is centered.

    The gradient to x is 1 where u lies in low..high and 0 outside; that to the scale is round(u) - u inside and the
    bound outside; that to the shift is 0 inside and 1 outside.

    Args:
        x: Values of any shape.
        scale: Step size, above 0; broadcasts against x.
        shift: Parameter that moves the grid; None if there is none. Without `grid.shift_low` it is an offset of the
            values.
        grid: Bounds of the grid.

    Returns:
        Values on the grid, in the shape of x.
    """
    return cast(Tensor, _LearnedFakeQuantize.apply(x, scale, shift, grid))


def exportable_fake_quantize(x: Tensor, scale: Tensor, shift: Tensor | None, grid: LearnedGrid) -> Tensor:
    """Compute the values of `learned_fake_quantize` in operations that an exported program can hold.

    Args:
        x: Values of any shape.
        scale: Step size, above 0; broadcasts against x.
        shift: As in `learned_fake_quantize`.
        grid: Bounds of the grid.

    Returns:
        Values on the grid, in the shape of x.
    """
    offset = shift if grid.shift_low is None else None
    values = x if offset is None else x - offset
    bounds: Any = (grid.low, grid.high)
    quantized = (values / scale).clamp(*bounds).round() * scale
    return quantized if offset is None or grid.is_centered else quantized + offset


class _LearnedFakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor | None, grid: LearnedGrid) -> Tensor:
        offset = shift if grid.shift_low is None else None
        values = x if offset is None else x - offset
        # Division: the reciprocal would give other codes at ties. In place: memory passes dominate the cost.
        bounds: Any = (grid.low, grid.high)  # two numbers or two tensors, as clamp takes them
        quantized = (values / scale).clamp_(*bounds).round_().mul_(scale)
        result = quantized if offset is None or grid.is_centered else quantized + offset
        ctx.save_for_backward(x, scale, shift, result)
        ctx.grid, ctx.is_offset = grid, offset is not None
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, scale, shift, result = ctx.saved_tensors
        grid, needs = ctx.grid, ctx.needs_input_grad
        values = x - shift if ctx.is_offset else x
        quantized = result - shift if ctx.is_offset and not grid.is_centered else result
        codes = values / scale
        inner = _inside(grad, codes, grid.low, grid.high)
        to_scale = to_shift = None
        if needs[1]:
            # grad (x_hat - x) inside and grad x_hat outside, in steps of the scale
            moved = (grad * quantized).addcmul_(inner, values, value=-1)
            to_scale = _summed_to(moved, scale.shape) / scale * grid.factor
        if shift is not None and needs[2]:
            kept = inner if ctx.is_offset else _inside(grad, codes, grid.shift_low, grid.shift_high)
            to_shift = _summed_to(grad - kept, shift.shape) * grid.factor
        return inner if needs[0] else None, to_scale, to_shift, None


def _inside(grad: Tensor, codes: Tensor, low: Bound, high: Bound) -> Tensor:
    """Return the gradient where low <= codes <= high, 0 elsewhere."""
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        return torch.where((codes >= low) & (codes <= high), grad, 0.0)
    # One vectorized pass. Its bounds are exclusive, so they are widened by an amount that float32 resolves.
    below, above = low - max(abs(low), 1e-30) * 2**-22, high + max(abs(high), 1e-30) * 2**-22
    return cast(Tensor, torch.ops.aten.hardtanh_backward(grad, codes, below, above))


def _summed_to(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Sum over the axes along which a tensor of this shape was broadcast."""
    return values.sum_to_size(*shape) if shape else values.sum()

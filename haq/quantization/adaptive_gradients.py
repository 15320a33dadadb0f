"""Fake quantization whose scale and shift learn, forward and backward written out: a third of the passes that
automatic differentiation makes over a tensor, which is what training spends on quantizers.

Gradients as in LSQ (Esser et al., "Learned Step Size Quantization", 2020) and LSQ+ (Bhalgat et al., 2020).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

Bound = float | Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LearnedGrid:
    """What a grid is besides its scale and shift; tensors broadcast against the values.

    `low` and `high` are the lowest and the highest code, counted from the zero point. Values beyond `least` and `most`,
    in the same units, move an integer shift; None where the shift is the values' own offset.
    """

    low: Bound
    high: Bound
    least: Bound | None = None
    most: Bound | None = None
    factor: float
    """What the gradients to scale and shift are multiplied by."""


def learned_fake_quantize(x: Tensor, scale: Tensor, shift: Tensor | None, grid: LearnedGrid) -> Tensor:
    """round(clamp(u, low, high)) * scale with u = x / scale; a shift that is an offset is taken off x and added again.

    The gradient to x is 1 where u lies in low..high and 0 outside; that to the scale round(u) - u inside, the bound
    outside; that to the shift 0 inside, 1 outside.
    """
    return cast(Tensor, _LearnedFakeQuantize.apply(x, scale, shift, grid))


class _LearnedFakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor | None, grid: LearnedGrid) -> Tensor:
        offset = shift if grid.least is None else None
        values = x if offset is None else x - offset
        # Division, never the reciprocal: other codes at ties. In place, as a pass over memory is all that this costs.
        bounds: Any = (grid.low, grid.high)  # two numbers or two tensors, as clamp takes them
        quantized = (values / scale).clamp_(*bounds).round_().mul_(scale)
        result = quantized if offset is None else quantized + offset
        ctx.save_for_backward(x, scale, shift, result)
        ctx.grid, ctx.is_offset = grid, offset is not None
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, scale, shift, result = ctx.saved_tensors
        grid, needs = ctx.grid, ctx.needs_input_grad
        values, quantized = (x - shift, result - shift) if ctx.is_offset else (x, result)
        codes = values / scale
        inner = _inside(grad, codes, grid.low, grid.high)
        to_scale = to_shift = None
        if needs[1]:
            # grad (x_hat - x) inside and grad x_hat outside, in steps of the scale
            moved = (grad * quantized).addcmul_(inner, values, value=-1)
            to_scale = _summed_to(moved, scale.shape) / scale * grid.factor
        if shift is not None and needs[2]:
            kept = inner if ctx.is_offset else _inside(grad, codes, grid.least, grid.most)
            to_shift = _summed_to(grad - kept, shift.shape) * grid.factor
        return inner if needs[0] else None, to_scale, to_shift, None


def _inside(grad: Tensor, codes: Tensor, low: Bound, high: Bound) -> Tensor:
    """The gradient where low <= codes <= high, 0 elsewhere."""
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        return torch.where((codes >= low) & (codes <= high), grad, 0.0)
    # One pass of vector code, whose bounds are exclusive; float32 tells numbers this far apart.
    below, above = low - max(abs(low), 1e-30) * 2**-22, high + max(abs(high), 1e-30) * 2**-22
    return cast(Tensor, torch.ops.aten.hardtanh_backward(grad, codes, below, above))


def _summed_to(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Sum over the axes along which a tensor of this shape was broadcast."""
    return values.sum_to_size(*shape) if shape else values.sum()

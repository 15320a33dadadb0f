"""The adaptive quantizer: a scale and a shift that learn from the loss of the task, started at the least squared error.

Of the family of LSQ (Esser et al., "Learned Step Size Quantization", 2020) and LSQ+ (Bhalgat et al., 2020).
"""

from math import prod, sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from haq.quantization.adaptive_gradients import LearnedGrid, learned_fake_quantize
from haq.quantization.affine import Shift, affine_fits
from haq.quantization.histogram import Histogram, build_histogram
from haq.quantization.linear import quantize_weight
from haq.quantization.range import IntegerRange, quantize

# From 20 / 24 of the starting scale upwards softplus is the identity (torch computes it so); below it bends to zero.
_SHARPNESS = 24.0
_PARAMETERS = ("raw_scale", "shift")
_BUFFERS = ("start_scale", "start_zero_point", "code_range")


class AdaptiveQuantizer(nn.Module):
    """Fake quantization x_hat = (code - zero_point) * scale with a scale and a shift that are learned.

    `calibrate` or `start_at` makes the parameters, or a state dict brings them; an optimizer comes after that. They are
    shaped [] for one grid per tensor, or [channels] with `channel_axis`:

    - `raw_scale`: the scale is a softplus of it that bends only far below its start. So it stays above 0 and yet
      learns as LSQ's does, in units of x.
    - `shift`: how far the grid has moved from its start, in units of x. The zero point follows in whole codes:
      clamp(start_zero_point - round(shift / scale)). Learned in codes it would hardly move, its gradient being
      `scale` times smaller.

    Gradients are LSQ's and LSQ+'s. For a value u = x / scale within the grid: 1 to x, round(u) - u to the scale, 0 to
    the shift. For a clipped one: 0, the distance code - zero_point of its level from zero, and 1. With whole codes the
    shift hears only of values that a grid moved by all of `shift` would clip as well; otherwise values clipped by
    part of a step would push it on to the next code. The gradients to scale and shift are multiplied by
    1 / sqrt(N q_max), N being the elements that share a scale, without the batch (LSQ, section 2.2).

    `signed` None means signed codes where calibration sees a negative value. `shift` is "integer"; "none" for a grid
    that stays where it starts; or "float" for LSQ+'s x_hat = (code - zero_point) * scale + shift, kept for comparison:
    zero is no level of such a grid, so an integer convolution comes out differently where zeros pad the border, and
    ONNX cannot express it. `narrow` leaves the lowest signed code out. `batch_axis` is not counted in N; it is None
    for weights whose channel axis is not 0.

    Raises ValueError for bits outside 1..8.

    >>> quantizer = AdaptiveQuantizer(4)
    >>> quantizer.calibrate(torch.arange(-2, 14) * 0.5)
    >>> quantizer.zero_point.item(), quantizer.codes(torch.tensor([-9.0, 0.0, 0.8, 9.0])).tolist()
    (-6, [-8, -6, -4, 7])
    """

    raw_scale: nn.Parameter | None
    shift: nn.Parameter | None
    start_scale: Tensor | None
    start_zero_point: Tensor
    code_range: Tensor
    """(q_min, q_max)"""

    def __init__(
        self,
        bits: int = 4,
        *,
        signed: bool | None = None,
        channel_axis: int | None = None,
        shift: Shift = "integer",
        narrow: bool = False,
        batch_axis: int | None = 0,
    ) -> None:
        super().__init__()
        IntegerRange(bits, signed=True)  # refuses other widths
        self.bits, self.signed, self.narrow = bits, signed, narrow
        self._asked_signed = signed
        self.channel_axis, self.batch_axis = channel_axis, batch_axis
        self.shift_kind: Shift = shift
        for name in _PARAMETERS:
            self.register_parameter(name, None)
        for name in _BUFFERS:
            self.register_buffer(name, None)

    @property
    def grid(self) -> IntegerRange:
        """The codes. Raises RuntimeError before calibration."""
        if self.signed is None:
            raise RuntimeError("the quantizer has no scale yet; call calibrate first")
        return IntegerRange(self.bits, signed=self.signed, narrow=self.narrow)

    @property
    def scale(self) -> Tensor:
        """Above 0, shaped [] or [channels], with gradient. Raises RuntimeError before calibration."""
        if self.raw_scale is None or self.start_scale is None:
            raise RuntimeError("the quantizer has no scale yet; call calibrate first")
        relative = functional.softplus(self.raw_scale / self.start_scale, beta=_SHARPNESS)
        return relative * self.start_scale + torch.finfo(self.start_scale.dtype).tiny

    @property
    def zero_point(self) -> Tensor:
        """The code of zero (int32, shaped as `scale`); with a float shift the code of the shift.

        Raises RuntimeError before calibration.
        """
        return self._zero_point(self.scale, self.shift, self.start_zero_point).to(torch.int32)

    @torch.no_grad()
    def calibrate(self, x: Tensor | Histogram) -> None:
        """Start at the (scale, shift) of least squared error for x, or for the histogram of a tensor's values.

        Where there are only zeros the scale is 1. Raises ValueError for values that are none, or not finite, and for
        a histogram where every channel has a grid of its own.
        """
        if isinstance(x, Tensor) and self.channel_axis is not None and self._asked_signed and self.shift_kind == "none":
            # Weights: all channels at once, and the very scales that are used without training.
            scale = quantize_weight(x, self.bits, channel_axis=self.channel_axis).scale
            self.start_at(scale, torch.zeros_like(scale), signed=True)
            return
        histograms, kind = self._histograms(x), self.shift_kind
        signed = any(each.signed for each in histograms) if self._asked_signed is None else self._asked_signed
        fits = [
            affine_fits(each, signed=signed, shift=kind, narrow=self.narrow, bits=(self.bits,))[self.bits]
            for each in histograms
        ]
        grids = torch.tensor([(fit.scale, fit.zero_point) for fit in fits])
        scale, zero_point = grids.to(x.device if isinstance(x, Tensor) else "cpu").unbind(dim=1)
        shape = [] if self.channel_axis is None else [len(fits)]
        self.start_at(scale.reshape(shape), zero_point.reshape(shape), signed=signed)

    @torch.no_grad()
    def start_at(self, scale: Tensor, zero_point: Tensor, *, signed: bool) -> None:
        """Start at a given grid, such as one found without training; scale and zero_point shaped [] or [channels].

        Raises ValueError for a scale that is not above 0, or a zero point that is none of the codes.
        """
        grid = IntegerRange(self.bits, signed=signed, narrow=self.narrow)
        if not (scale > 0).all():
            raise ValueError(f"scales must be above 0, got {scale.min().item()}")
        if ((zero_point < grid.q_min - 0.5) | (zero_point > grid.q_max + 0.5)).any():
            raise ValueError(f"zero points must lie in {grid.q_min}..{grid.q_max}, got {zero_point.tolist()}")
        self.signed = signed
        self.code_range = torch.tensor([grid.q_min, grid.q_max], dtype=torch.int32, device=scale.device)
        self.start_scale = scale.detach().clone()
        self.start_zero_point = zero_point.detach().round().clamp(grid.q_min, grid.q_max).to(scale)
        self.raw_scale = nn.Parameter(scale.detach().clone())
        rest = (self.start_zero_point - zero_point) * scale
        self.shift = None if self.shift_kind == "none" else nn.Parameter(rest.detach())

    @torch.no_grad()
    def settle(self) -> None:
        """Take an integer shift to the whole codes that it stands for; the zero point stays as it is.

        A shift that learns may come to rest halfway between two codes, and then flips the zero point at every step.
        """
        if self.shift is not None and self.shift_kind == "integer":
            scale = self.scale
            self.shift.copy_(torch.round(self.shift / scale) * scale)

    def forward(self, x: Tensor) -> Tensor:
        """x after quantization, in its shape and type; computed in float32 at least."""
        scale, shift, start = self._aligned(x.shape)
        values = x.to(torch.promote_types(x.dtype, scale.dtype))
        grid = self._learned_grid(values, scale.detach(), shift, start)
        return learned_fake_quantize(values, scale, shift, grid).to(x.dtype)

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        """Integer codes (int32, shape of x)."""
        scale, shift, start = self._aligned(x.shape)
        values = x.to(torch.promote_types(x.dtype, scale.dtype))
        if shift is not None and self.shift_kind == "float":
            values = values - shift
        return quantize(values, scale, self._zero_point(scale, shift, start), self.grid.q_min, self.grid.q_max)

    def aligned_scale(self, x: Tensor) -> Tensor:
        """The scale in a shape that broadcasts against x."""
        return _along(self.scale, x.ndim, self.channel_axis)

    def _aligned(self, shape: torch.Size) -> tuple[Tensor, Tensor | None, Tensor]:
        """Scale, shift and the first zero point, all broadcast against the shape."""
        ndim, axis = len(shape), self.channel_axis
        shift = None if self.shift is None else _along(self.shift, ndim, axis)
        return _along(self.scale, ndim, axis), shift, _along(self.start_zero_point, ndim, axis)

    def _gradient_factor(self, shape: torch.Size) -> float:
        """1 / sqrt(N q_max), N being the elements that share a scale, without the batch."""
        apart = {axis % len(shape) for axis in (self.batch_axis, self.channel_axis) if axis is not None and shape}
        elements = prod([size for axis, size in enumerate(shape) if axis not in apart])
        return 1 / sqrt(max(elements, 1) * self.grid.steps)

    @torch.no_grad()
    def _zero_point(self, scale: Tensor, shift: Tensor | None, start: Tensor) -> Tensor:
        if shift is None or self.shift_kind == "float":
            return start
        return torch.clamp(start - torch.round(shift / scale), self.grid.q_min, self.grid.q_max)

    @torch.no_grad()
    def _learned_grid(self, x: Tensor, scale: Tensor, shift: Tensor | None, start: Tensor) -> LearnedGrid:
        """An integer shift hears of what is outside the grid both as it is and moved by all of the shift."""
        zero_point = self._zero_point(scale, shift, start)
        ends: tuple[Tensor | None, Tensor | None] = (None, None)
        if shift is not None and self.shift_kind == "integer":
            real = start - shift / scale
            ends = torch.maximum(zero_point, real), torch.minimum(zero_point, real)
        # Numbers where that waits for nothing: clamping between tensors takes six times as long on a CPU.
        plain = self.channel_axis is None and x.device.type == "cpu" and not torch.compiler.is_compiling()
        above, below = (None if end is None else (end.item() if plain else end) for end in ends)
        zero = zero_point.item() if plain else zero_point
        q_min, q_max = self.grid.q_min, self.grid.q_max
        return LearnedGrid(
            low=q_min - zero,
            high=q_max - zero,
            least=None if above is None else q_min - above,
            most=None if below is None else q_max - below,
            factor=self._gradient_factor(x.shape),
        )

    def _histograms(self, x: Tensor | Histogram) -> list[Histogram]:
        """Of the whole tensor, or of each channel."""
        if isinstance(x, Histogram):
            if self.channel_axis is not None:
                raise ValueError("one histogram cannot calibrate channel by channel; give the tensor itself")
            return [x]
        return [
            build_histogram([row]) for row in ([x] if self.channel_axis is None else x.movedim(self.channel_axis, 0))
        ]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Parameters take the shapes that were saved; other bits than the quantizer's are an error of loading."""
        scale, stored = (state_dict.get(f"{prefix}{name}") for name in ("start_scale", "code_range"))
        if scale is not None and stored is not None:
            signed = bool(stored[0] < 0)
            if self.start_scale is None or self.start_scale.shape != scale.shape:
                self.start_at(torch.ones_like(scale), torch.zeros_like(scale), signed=signed)
            self.signed = signed
            if stored.tolist() != [self.grid.q_min, self.grid.q_max]:
                args[-1].append(f"{prefix}code_range is {stored.tolist()}, not that of {self.grid}")
        super()._load_from_state_dict(state_dict, prefix, *args)


def _along(value: Tensor, ndim: int, axis: int | None) -> Tensor:
    """[] as it is, [channels] in a shape that broadcasts along an axis of a tensor."""
    return value if axis is None else value.reshape([-1 if dim == axis % ndim else 1 for dim in range(ndim)])

"""Adaptive quantizer: learnable scale and shift, initialized at the least squared error.

A variant of LSQ (Esser et al., "Learned Step Size Quantization", 2020) and LSQ+ (Bhalgat et al., 2020).
"""

from math import prod, sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from haq.quantization.adaptive_gradients import exportable_fake_quantize, learned_fake_quantize, learned_grid
from haq.quantization.affine import Shift
from haq.quantization.grids import least_error_grid
from haq.quantization.histogram import Histogram
from haq.quantization.linear import quantize_weight
from haq.quantization.range import IntegerRange, align_channels, nearest_power_of_two, quantize

# From 20 / 24 of the initial scale upwards torch's softplus is the identity; below, it approaches zero.
_SHARPNESS = 24.0
_PARAMETERS = ("raw_scale", "shift")
_BUFFERS = ("start_scale", "start_zero_point", "code_range")


class AdaptiveQuantizer(nn.Module):
    """Fake quantization x_hat = (code - zero_point) * scale with learnable scale and shift.

    The parameters are created by `calibrate` or `start_at`, or loaded from a state dict; create the optimizer after
    that. They have shape [], or [channels] with `channel_axis`:

    - `raw_scale`: The scale is a softplus of it that is the identity except far below the initial scale. So the scale
      stays above 0 and has the gradient of LSQ, in units of x.
    - `shift`: Displacement of the grid from its initial position, in units of x. The zero point follows in whole codes:
      clamp(start_zero_point - round(shift / scale)). If it were learned in codes, its gradient would be `scale` times
      smaller, and it would hardly change.

    Gradients are those of LSQ and LSQ+. For a value u = x / scale within the grid they are 1 to x, round(u) - u to the
    scale and 0 to the shift. For a clipped value they are 0, the distance code - zero_point of its level from zero, and
    1. With an integer shift, the gradient to the shift includes only values that are clipped both by the grid as it is
    and by the grid displaced by the unrounded shift; otherwise values that are clipped by a fraction of a step would
    push the shift to the next code. The gradients to scale and shift are multiplied by 1 / sqrt(N q_max), where N is
    the number of elements that share a scale, without the batch (LSQ, section 2.2).

    Args:
        bits: Bit width, 1 to 8.
        signed: Whether codes are signed; None for signed codes if calibration sees a negative value.
        channel_axis: Axis of the channels that each have a grid; None for one grid per tensor.
        shift: "integer" for a zero point in whole codes; "none" for a grid that stays where it starts; "float" for
            LSQ+'s x_hat = (code - zero_point) * scale + offset. The zero point is the code of zero, and the offset,
            mostly half a step or less, is what whole codes leave of the shift.
        narrow: Whether the lowest signed code is left out.
        batch_axis: Axis that is not counted in N; None for weights whose channel axis is not 0.
        power_of_two: Whether the scale is rounded to a power of two, on a logarithmic axis, with the gradient of the
            unrounded scale.

    Attributes:
        raw_scale: Parameter behind `scale`; None before calibration.
        shift: Displacement of the grid, in units of x; None before calibration and without a shift.
        start_scale: Initial scale; None before calibration.
        start_zero_point: Initial zero point.
        code_range: (q_min, q_max), int32.
        shift_kind: How the grid may be shifted.

    Raises:
        ValueError: `bits` is outside 1..8.

    Examples:
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

    def __init__(
        self,
        bits: int = 4,
        *,
        signed: bool | None = None,
        channel_axis: int | None = None,
        shift: Shift = "integer",
        narrow: bool = False,
        batch_axis: int | None = 0,
        power_of_two: bool = False,
    ) -> None:
        super().__init__()
        IntegerRange(bits, signed=True)  # raises for other widths
        self.bits, self.signed, self.narrow = bits, signed, narrow
        self._requested_signed = signed
        self.channel_axis, self.batch_axis = channel_axis, batch_axis
        self.shift_kind: Shift = shift
        self.power_of_two = power_of_two
        for name in _PARAMETERS:
            self.register_parameter(name, None)
        for name in _BUFFERS:
            self.register_buffer(name, None)

    @property
    def grid(self) -> IntegerRange:
        """Range of the codes.

        Raises:
            RuntimeError: The quantizer is not calibrated.
        """
        if self.signed is None:
            raise RuntimeError("the quantizer has no scale yet; call calibrate first")
        return IntegerRange(self.bits, signed=self.signed, narrow=self.narrow)

    @property
    def scale(self) -> Tensor:
        """Step size with gradient, above 0, [] or [channels].

        Raises:
            RuntimeError: The quantizer is not calibrated.
        """
        if self.raw_scale is None or self.start_scale is None:
            raise RuntimeError("the quantizer has no scale yet; call calibrate first")
        relative = functional.softplus(self.raw_scale / self.start_scale, beta=_SHARPNESS)
        scale = relative * self.start_scale + torch.finfo(self.start_scale.dtype).tiny
        return nearest_power_of_two(scale) if self.power_of_two else scale

    @property
    def zero_point(self) -> Tensor:
        """Code of zero, int32 in the shape of `scale`.

        Raises:
            RuntimeError: The quantizer is not calibrated.
        """
        return self._placed(self.scale, self.shift, self.start_zero_point)[0].to(torch.int32)

    @property
    def offset(self) -> Tensor | None:
        """Value of the zero point's code, with gradient, in the shape of `scale`; None without a float shift."""
        return None if self.shift is None else self._placed(self.scale, self.shift, self.start_zero_point)[1]

    @torch.no_grad()
    def calibrate(self, x: Tensor | Histogram) -> None:
        """Initialize scale and zero point at the least squared error; the scale is 1 if all values are zero.

        Args:
            x: Tensor to be quantized, or the histogram of its values.

        Raises:
            ValueError: There are no values, a value is not finite, or a histogram is given with `channel_axis`.
        """
        axis, powers = self.channel_axis, self.power_of_two
        if isinstance(x, Tensor) and axis is not None and self._requested_signed and self.shift_kind == "none":
            # Weights: all channels at once, with exactly the scales that are used without training.
            scale = quantize_weight(x, self.bits, channel_axis=axis).scale
            self.start_at(scale, torch.zeros_like(scale), signed=True)
            return
        signed = self._requested_signed
        if signed is None:
            signed = x.signed if isinstance(x, Histogram) else bool((x.to(torch.float32) < 0).any())
        codes = IntegerRange(self.bits, signed=signed, narrow=self.narrow)
        grid = least_error_grid(x, codes, shift=self.shift_kind, power_of_two=powers, channel_axis=axis)
        self.start_at(grid.scale, grid.zero_point, signed=signed)

    @torch.no_grad()
    def start_at(self, scale: Tensor, zero_point: Tensor, *, signed: bool) -> None:
        """Initialize scale and zero point with a given grid, such as one calibrated without training.

        Args:
            scale: Step size, above 0, [] or [channels].
            zero_point: Code of zero, in the shape of `scale`.
            signed: Whether codes are signed.

        Raises:
            ValueError: A scale is not above 0, or a zero point is outside the codes.
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
    def round_shift(self) -> None:
        """Round an integer shift to whole codes; the zero point stays as it is.

        A learned shift may converge to the middle between two codes, where the zero point changes at every step.
        """
        if self.shift is not None and self.shift_kind == "integer":
            scale = self.scale
            self.shift.copy_(torch.round(self.shift / scale) * scale)

    @torch.no_grad()
    def settle_scale(self) -> None:
        """Replace the learned scale by its power of two, which does not change the grid any more."""
        if self.power_of_two and self.raw_scale is not None and self.start_scale is not None:
            scale = self.scale
            self.start_scale.copy_(scale)
            self.raw_scale.copy_(scale)

    def forward(self, x: Tensor, *, centered: bool = False) -> Tensor:
        """Fake-quantize a tensor, computed in float32 or a wider type.

        Args:
            x: Tensor whose size along `channel_axis` is the number of channels.
            centered: Whether `offset` is left out of the values, since the caller adds it later. The gradient to the
                shift is that of values with it.

        Returns:
            Values on the grid, in the shape and dtype of x.
        """
        scale, shift, start = self._aligned(x.shape)
        zero_point, offset = self._placed(scale, shift, start)
        is_compiling = torch.compiler.is_compiling() or torch.compiler.is_exporting()
        grid = learned_grid(
            self.grid,
            zero_point,
            unrounded=start - shift.detach() / scale.detach() if shift is not None and offset is None else None,
            factor=self._gradient_factor(x.shape),
            # Clamping between tensors takes six times as long on a CPU. Other devices would have to synchronize.
            in_numbers=self.channel_axis is None and x.device.type == "cpu" and not is_compiling,
            is_centered=centered,
        )
        quantized = exportable_fake_quantize if torch.compiler.is_exporting() else learned_fake_quantize
        return quantized(_widened(x, scale), scale, shift if offset is None else offset, grid).to(x.dtype)

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        """Quantize a tensor to integer codes.

        Args:
            x: Tensor whose size along `channel_axis` is the number of channels.

        Returns:
            Codes, int32 in the shape of x.
        """
        scale, shift, start = self._aligned(x.shape)
        zero_point, offset = self._placed(scale, shift, start)
        values = _widened(x, scale) if offset is None else _widened(x, scale) - offset
        return quantize(values, scale, zero_point, self.grid.q_min, self.grid.q_max)

    def aligned_scale(self, x: Tensor) -> Tensor:
        """Reshape the scale so that it broadcasts against a tensor.

        Args:
            x: Tensor that the scale is applied to.

        Returns:
            The scale, [] or with the channels along `channel_axis` of x.
        """
        return align_channels(self.scale, x.ndim, self.channel_axis)

    def _aligned(self, shape: torch.Size) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return scale, shift and initial zero point, reshaped to broadcast against a shape."""
        ndim, axis = len(shape), self.channel_axis
        shift = None if self.shift is None else align_channels(self.shift, ndim, axis)
        return align_channels(self.scale, ndim, axis), shift, align_channels(self.start_zero_point, ndim, axis)

    def _gradient_factor(self, shape: torch.Size) -> float:
        """Return 1 / sqrt(N q_max); N is the number of elements that share a scale, without the batch."""
        apart = {axis % len(shape) for axis in (self.batch_axis, self.channel_axis) if axis is not None and shape}
        elements = prod([size for axis, size in enumerate(shape) if axis not in apart])
        return 1 / sqrt(max(elements, 1) * self.grid.steps)

    def _placed(self, scale: Tensor, shift: Tensor | None, start: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the zero point, without gradient, and the offset if the shift is a float."""
        if shift is None:
            return start, None
        codes = start - torch.round(shift.detach() / scale.detach())
        zero_point = codes.clamp(self.grid.q_min, self.grid.q_max)
        return zero_point, shift + (zero_point - start) * scale if self.shift_kind == "float" else None

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Create parameters in the saved shapes; other bits than the quantizer's are a loading error."""
        scale, stored = (state_dict.get(f"{prefix}{name}") for name in ("start_scale", "code_range"))
        if scale is not None and stored is not None:
            signed = bool(stored[0] < 0)
            if self.start_scale is None or self.start_scale.shape != scale.shape:
                self.start_at(torch.ones_like(scale), torch.zeros_like(scale), signed=signed)
            self.signed = signed
            if stored.tolist() != [self.grid.q_min, self.grid.q_max]:
                args[-1].append(f"{prefix}code_range is {stored.tolist()}, not that of {self.grid}")
        super()._load_from_state_dict(state_dict, prefix, *args)


def _widened(x: Tensor, scale: Tensor) -> Tensor:
    """Return values in the wider dtype of the two."""
    return x if x.dtype == scale.dtype else x.to(torch.promote_types(x.dtype, scale.dtype))

"""Scales of weights under the rules of a deployment target: one for the whole tensor, powers of two."""

from dataclasses import dataclass

import torch
from torch import Tensor

from haq.quantization.linear import QuantizedWeight, quantize_to_scale

_LEAST_EXPONENT = -126
"""Exponent of the smallest normal float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleRule:
    """Rule for the scales of weights.

    Attributes:
        per_tensor: Whether all output channels share one scale.
        power_of_two: Whether scales are powers of two.
    """

    per_tensor: bool = False
    power_of_two: bool = False


ANY_SCALES = ScaleRule()
"""No rule: any scale for each output channel."""


def rows_with_scales(weight: Tensor, channel_axis: int, rule: ScaleRule) -> tuple[Tensor, int]:
    """Return weights in the shape in which their clips are calibrated.

    Args:
        weight: Weights of any shape with at least one axis.
        channel_axis: Axis of the output channels.
        rule: Rule for the scales.

    Returns:
        The weights and the axis along which each index has a clip; one row of all weights for a scale per tensor.
    """
    return (weight.reshape(1, -1), 0) if rule.per_tensor else (weight, channel_axis)


def stored_scale(scale: Tensor, rule: ScaleRule) -> Tensor:
    """Return scales as files contain them.

    Args:
        scale: Scales [channels].
        rule: Rule for the scales.

    Returns:
        The scales [channels], or [] if all channels share one.
    """
    return scale[0] if rule.per_tensor else scale


def with_powers_of_two(weight: Tensor, quantized: QuantizedWeight, rule: ScaleRule) -> QuantizedWeight:
    """Quantize weights again with scales that are powers of two, if a rule demands it.

    Each scale becomes the neighbouring power of two, below or above, of less squared error over the weights that share
    the scale; of equal ones the lower.

    Args:
        weight: Weights of any shape with at least one axis.
        quantized: The weights with any scales.
        rule: Rule for the scales.

    Returns:
        The weights with such scales; `quantized` itself without the demand.

    Examples:
        >>> weight = torch.tensor([[0.5, -1.5, 0.5]])
        >>> codes = QuantizedWeight(codes=torch.zeros(1, 3), scale=torch.tensor([0.3]), bits=3, channel_axis=0)
        >>> with_powers_of_two(weight, codes, ScaleRule(power_of_two=True)).scale.item()
        0.5
    """
    if not rule.power_of_two:
        return quantized
    options = [
        quantize_to_scale(weight, quantized.bits, scale=scale, channel_axis=quantized.channel_axis)
        for scale in powers_around(quantized.scale)
    ]
    lower, upper = (_squared_error(weight, option, rule) for option in options)
    scale = torch.where(upper < lower, options[1].scale, options[0].scale)
    return quantize_to_scale(weight, quantized.bits, scale=scale, channel_axis=quantized.channel_axis)


def powers_around(scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return the neighbouring powers of two.

    Args:
        scale: Scales, float32 of any shape, above 0.

    Returns:
        The largest powers that are at most as large, and twice these.

    Examples:
        >>> [power.tolist() for power in powers_around(torch.tensor([0.3, 0.5]))]
        [[0.25, 0.5], [0.5, 1.0]]
    """
    exponent = (torch.frexp(scale).exponent - 1).clamp(min=_LEAST_EXPONENT)
    one = torch.ones_like(scale)
    return torch.ldexp(one, exponent), torch.ldexp(one, exponent + 1)


def _squared_error(weight: Tensor, quantized: QuantizedWeight, rule: ScaleRule) -> Tensor:
    """Return the squared error [channels]; that of the whole tensor for each channel if all share a scale."""
    error = (quantized.dequantize().double() - weight.double()).square()
    channels = error.movedim(quantized.channel_axis, 0).flatten(1).sum(dim=1)
    return channels.sum().expand_as(channels) if rule.per_tensor else channels

"""Rounding of weights to integers: strategies by name, each created once per layer for all bit widths."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from haq.quantization.gptq import Feedback, gptq_codes
from haq.quantization.linear import QuantizedWeight
from haq.quantization.range import weight_range
from haq.quantization.weight_scales import ANY_SCALES, ScaleRule
from haq.settings import Rounding

# Scales that GPTQ tries, relative to those of the nearest codes: eight to the octave, 1 first.
_SCALE_RATIOS = 2.0 ** (torch.tensor([0, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5]) / 8)
# The same for scales that are powers of two.
_POWER_RATIOS = torch.tensor([1.0, 0.5, 2.0])
_WEIGHTS_AT_ONCE = 1 << 24  # of all the scales that are tried together
_LARGEST_GAIN = 2.0


class WeightRounding(Protocol):
    """Strategy that rounds the weights of one layer.

    Attributes:
        stores_codes: Whether codes do not follow from weights and scales, so that files have to contain them.
    """

    stores_codes: bool

    def round(self, weight: Tensor, nearest: QuantizedWeight) -> QuantizedWeight:
        """Round weights to integers; called at most once for each bit width.

        Args:
            weight: Weights of the layer, of any shape with at least one axis.
            nearest: Nearest integers, and their scales; their bit width is that of the result.

        Returns:
            Integers in the shape of the weight, and their scales.
        """
        ...


class NearestRounding:
    """Rounding of each weight to the nearest integer."""

    stores_codes = False

    def round(self, weight: Tensor, nearest: QuantizedWeight) -> QuantizedWeight:  # noqa: ARG002
        return nearest


class GptqRounding:
    """Rounding that minimizes the squared error of the layer's outputs, see `haq.quantization.gptq`.

    Args:
        hessian: Function that returns the Hessian of the layer's inputs, see `haq.quantization.input_hessians`; called
            once, when weights are first rounded.
        scales: Rule for the scales, which those of the nearest codes follow.
    """

    stores_codes = True

    def __init__(self, hessian: Callable[[], Tensor], scales: ScaleRule = ANY_SCALES) -> None:
        self._hessian, self._scales = hessian, scales

    def round(self, weight: Tensor, nearest: QuantizedWeight) -> QuantizedWeight:
        return _rounded(weight, nearest, self._inputs, self._scales)

    @cached_property
    def _inputs(self) -> "_Inputs":
        return _Inputs.of(self._hessian())


@dataclass(frozen=True, slots=True)
class RoundingMethod:
    """Entry of the table of roundings.

    Attributes:
        needs_hessian: Whether it uses the Hessian of the layer's inputs; layers without one are rounded to nearest.
        make: Function that creates the rounding of one layer from a function that returns its Hessian, and the rule for
            its scales.
    """

    needs_hessian: bool
    make: Callable[[Callable[[], Tensor], ScaleRule], WeightRounding]


ROUNDINGS: Mapping[Rounding, RoundingMethod] = {
    "nearest": RoundingMethod(needs_hessian=False, make=lambda _hessian, _scales: NearestRounding()),
    "gptq": RoundingMethod(needs_hessian=True, make=GptqRounding),
}
"""Roundings by the values of `--rounding`."""


@dataclass(frozen=True, slots=True, eq=False)
class _Inputs:
    """Statistics of a layer's inputs.

    Attributes:
        feedback: Factors of the Hessian.
        covariance: Covariance of the inputs, [groups, columns, columns].
    """

    feedback: Feedback
    covariance: Tensor

    @classmethod
    def of(cls, hessian: Tensor) -> "_Inputs":
        """Compute the statistics from the Hessian of weights and bias, [groups, columns + 1, columns + 1]."""
        mean, moments = hessian[:, :-1, -1:], hessian[:, :-1, :-1]
        return cls(Feedback.of(moments), moments - mean @ mean.mT)


def _rounded(weight: Tensor, nearest: QuantizedWeight, inputs: _Inputs, rule: ScaleRule) -> QuantizedWeight:
    """Round weights with GPTQ at several scales, and choose for each channel the scale of least output error.

    Output channels are axis 0. Candidate scales lie around those of the nearest codes, which are tried first. Finally
    each scale is multiplied by `_shrinkage`, unless it has to be a power of two. Channels that share a scale take the
    one of least error of all of them.
    """
    groups, columns = inputs.feedback.order.shape
    grid = weight_range(nearest.bits)
    rows, scale = weight.float().reshape(groups, -1, columns), nearest.scale.reshape(groups, -1)
    least = torch.full_like(scale, torch.inf)
    best_scale, best_codes = scale.clone(), torch.zeros_like(rows, dtype=torch.int8)
    candidates = _POWER_RATIOS if rule.power_of_two else _SCALE_RATIOS
    for ratios in torch.split(candidates.to(scale), max(1, _WEIGHTS_AT_ONCE // weight.numel())):
        scales = scale[:, None] * ratios[:, None]  # [groups, ratios, rows]
        steps = (rows[:, None] / scales[..., None]).flatten(1, 2)
        codes, error = gptq_codes(steps, inputs.feedback, grid)
        error = error.reshape(scales.shape) * scales**2
        error, place = (_shared(error) if rule.per_tensor else error).min(dim=1)
        codes = codes.to(torch.int8).reshape(*scales.shape, columns)
        codes = codes.take_along_dim(place[:, None, :, None], dim=1).squeeze(1)
        better = error < least
        least = torch.where(better, error, least)
        best_scale = torch.where(better, scales.take_along_dim(place[:, None], dim=1).squeeze(1), best_scale)
        best_codes = torch.where(better[:, :, None], codes, best_codes)
    if not rule.power_of_two:
        best_scale = best_scale * _shrinkage(rows, best_codes * best_scale[:, :, None], inputs.covariance, rule)
    return replace(nearest, codes=best_codes.reshape(weight.shape), scale=best_scale.flatten())


def _shared(values: Tensor) -> Tensor:
    """Sum values [groups, n, rows] over all groups and rows, in the same shape."""
    return values.sum(dim=(0, 2), keepdim=True).expand_as(values)


def _shrinkage(rows: Tensor, rounded: Tensor, covariance: Tensor, rule: ScaleRule) -> Tensor:
    """Return the factors [groups, rows] by which the regression of rounded on float outputs gets slope 1.

    Rows are [groups, rows, columns]. The least squared error shrinks outputs towards their mean, a little in every
    layer; unless batch norms are re-estimated, channels of little variance vanish after tens of layers. Shifts of the
    mean are left to corrections. Factors lie within 1/2 and 2, which bounds those of rows whose weights are nearly all
    zero.
    """
    wanted = rows @ covariance
    energy, kept = (wanted * rows).sum(dim=2), (wanted * rounded).sum(dim=2)
    if rule.per_tensor:
        energy, kept = (_shared(each[:, None]).squeeze(1) for each in (energy, kept))
    varies = (energy > 0) & (kept > 0)
    return torch.where(varies, energy / torch.where(varies, kept, 1.0), 1.0).clamp(1 / _LARGEST_GAIN, _LARGEST_GAIN)

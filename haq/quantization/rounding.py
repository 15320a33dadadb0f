"""Rounding of weights to integers: strategies by name.

A strategy of one layer is made once, for all widths.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from haq.config import Rounding
from haq.quantization.gptq import Feedback, gptq_codes
from haq.quantization.linear import QuantizedWeight
from haq.quantization.range import IntegerRange

# Scales that GPTQ tries, relative to those of the nearest codes: eight to the octave, 1 first.
_SCALE_RATIOS = 2.0 ** (torch.tensor([0, -6, -5, -4, -3, -2, -1, 1, 2]) / 8)
_WEIGHTS_AT_ONCE = 1 << 24  # of all the scales that are tried together
_LARGEST_GAIN = 2.0


class WeightRounding(Protocol):
    """Rounds the weights of one layer."""

    stores_codes: bool
    """Whether codes do not follow from weights and scales, so that a file has to hold them."""

    def round(self, weight: Tensor, nearest: QuantizedWeight) -> QuantizedWeight:
        """Round weights to integers.

        Args:
            weight: Weights of the layer.
            nearest: The nearest integers, and their scales.

        Returns:
            The integers and their scales.
        """
        ...


class NearestRounding:
    """Round every weight to the nearest integer."""

    stores_codes = False

    def round(self, weight: Tensor, nearest: QuantizedWeight) -> QuantizedWeight:  # noqa: ARG002
        return nearest


class GptqRounding:
    """Round weights so that the outputs of the layer change least, see `haq.quantization.gptq`.

    Args:
        hessian: Returns the Hessian of the layer's inputs, see `haq.quantization.input_hessians`; called once, when
            weights are first rounded.
    """

    stores_codes = True

    def __init__(self, hessian: Callable[[], Tensor]) -> None:
        self._hessian = hessian

    def round(self, weight: Tensor, nearest: QuantizedWeight) -> QuantizedWeight:
        return _rounded(weight, nearest, self._inputs)

    @cached_property
    def _inputs(self) -> "_Inputs":
        return _Inputs.of(self._hessian())


@dataclass(frozen=True, slots=True)
class RoundingMethod:
    """How the rounding of a layer is made.

    Attributes:
        needs_hessian: Whether it looks at the layer's inputs; layers without a Hessian are rounded to the nearest.
        make: Makes the rounding of one layer from a function that returns the Hessian of its inputs.
    """

    needs_hessian: bool
    make: Callable[[Callable[[], Tensor]], WeightRounding]


ROUNDINGS: Mapping[Rounding, RoundingMethod] = {
    "nearest": RoundingMethod(needs_hessian=False, make=lambda _: NearestRounding()),
    "gptq": RoundingMethod(needs_hessian=True, make=GptqRounding),
}
"""Roundings by the names of `--rounding`."""


@dataclass(frozen=True, slots=True, eq=False)
class _Inputs:
    """What rounding needs to know of a layer's inputs."""

    feedback: Feedback
    covariance: Tensor
    """[groups, columns, columns]"""

    @classmethod
    def of(cls, hessian: Tensor) -> "_Inputs":
        """From the Hessian of weights and bias."""
        mean, moments = hessian[:, :-1, -1:], hessian[:, :-1, :-1]
        return cls(Feedback.of(moments), moments - mean @ mean.mT)


def _rounded(weight: Tensor, nearest: QuantizedWeight, inputs: _Inputs) -> QuantizedWeight:
    """The codes that GPTQ finds, each channel's at the scale that leaves its output the least error.

    Output channels are axis 0. Scales lie around those of the nearest codes, which are the first to be tried. At the
    end they are widened by what the output was shrunk by.
    """
    groups, columns = inputs.feedback.order.shape
    grid = IntegerRange(nearest.bits, signed=True, narrow=True)
    rows, scale = weight.float().reshape(groups, -1, columns), nearest.scale.reshape(groups, -1)
    least = torch.full_like(scale, torch.inf)
    best_scale, best_codes = scale.clone(), torch.zeros_like(rows, dtype=torch.int8)
    for ratios in torch.split(_SCALE_RATIOS.to(scale), max(1, _WEIGHTS_AT_ONCE // weight.numel())):
        scales = scale[:, None] * ratios[:, None]  # [groups, ratios, rows]
        steps = (rows[:, None] / scales[..., None]).flatten(1, 2)
        codes, error = gptq_codes(steps, inputs.feedback, grid)
        error, place = (error.reshape(scales.shape) * scales**2).min(dim=1)
        codes = codes.to(torch.int8).reshape(*scales.shape, columns)
        codes = codes.take_along_dim(place[:, None, :, None], dim=1).squeeze(1)
        better = error < least
        least = torch.where(better, error, least)
        best_scale = torch.where(better, scales.take_along_dim(place[:, None], dim=1).squeeze(1), best_scale)
        best_codes = torch.where(better[:, :, None], codes, best_codes)
    best_scale = best_scale * _shrinkage(rows, best_codes * best_scale[:, :, None], inputs.covariance)
    return replace(nearest, codes=best_codes.reshape(weight.shape), scale=best_scale.flatten())


def _shrinkage(rows: Tensor, rounded: Tensor, covariance: Tensor) -> Tensor:
    """By what rounded rows [groups, rows, columns] are multiplied so that outputs follow the wanted ones with slope 1.

    The least error pulls outputs towards their mean, in every layer by a little more; where no batch norm is
    re-estimated to bring them back, tens of layers leave nothing of the channels that have little variance. Means are
    the business of corrections. At most a factor of two, for rows that are hardly there any more.
    """
    wanted = rows @ covariance
    energy, kept = (wanted * rows).sum(dim=2), (wanted * rounded).sum(dim=2)
    known = (energy > 0) & (kept > 0)
    return torch.where(known, energy / torch.where(known, kept, 1.0), 1.0).clamp(1 / _LARGEST_GAIN, _LARGEST_GAIN)

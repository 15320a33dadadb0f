"""The weights of one layer at every width, by one of two quantizers: integers with scales, or codebooks.

Integers are the nearest, or those that GPTQ finds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from haq.config import QuantizerName
from haq.quantization.calibration import MethodChoice
from haq.quantization.gptq import Feedback, gptq_codes
from haq.quantization.kmeans import Codebook, kmeans_codebooks
from haq.quantization.linear import QuantizedWeight, quantize_to_clips, quantize_to_scale, weight_clips
from haq.quantization.range import IntegerRange

# Scales that GPTQ tries, relative to those of the nearest codes: eight to the octave, 1 first.
_SCALE_RATIOS = 2.0 ** (torch.tensor([0, -6, -5, -4, -3, -2, -1, 1, 2]) / 8)
_WEIGHTS_AT_ONCE = 1 << 24  # of all the scales that are tried together
_LARGEST_GAIN = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class StoredWeight:
    """Quantized weights: their values in the network's shape, and the parameters by name that give them again."""

    values: Tensor
    parts: Mapping[str, Tensor]
    codes: QuantizedWeight | None = None
    """The integers, where the quantizer is linear."""


class LayerWeights(Protocol):
    """Quantizes the weights of one layer; what all widths share is found once."""

    def quantize(self, bits: int) -> StoredWeight:
        """The weights at a width."""
        ...

    def restore(self, bits: int, parts: Mapping[str, Tensor]) -> StoredWeight:
        """The weights at a width from the parameters that `quantize` gave.

        Raises KeyError for parameters of another quantizer, ValueError for those of other weights.
        """
        ...


class LinearWeights:
    """Symmetric integers with a scale for every output channel.

    `hessian` gives that of the layer's inputs when it is first needed, for weights to be rounded by GPTQ; see
    `haq.quantization.input_hessians`.
    """

    def __init__(
        self,
        weight: Tensor,
        *,
        channel_axis: int,
        method: MethodChoice,
        hessian: Callable[[], Tensor] | None = None,
    ) -> None:
        self._weight, self._axis, self._method, self._hessian = weight, channel_axis, method, hessian

    def quantize(self, bits: int) -> StoredWeight:
        nearest = quantize_to_clips(self._weight, bits, clip=self._clips[bits], channel_axis=self._axis)
        if self._inputs is None:
            return self._stored(nearest)
        codes = _rounded(self._weight, nearest, self._inputs)
        return self._stored(codes, {"codes": codes.codes})

    def restore(self, bits: int, parts: Mapping[str, Tensor]) -> StoredWeight:
        scale, channels = parts["scale"].to(self._weight.device), self._weight.shape[self._axis]
        if tuple(scale.shape) != (channels,):
            raise ValueError(f"{channels} output channels need as many scales, not {scale.numel()}")
        nearest = quantize_to_scale(self._weight, bits, scale=scale, channel_axis=self._axis)
        if "codes" not in parts:
            return self._stored(nearest)
        codes = self._given(bits, parts["codes"])
        return self._stored(replace(nearest, codes=codes), {"codes": codes})

    def _given(self, bits: int, codes: Tensor) -> Tensor:
        grid = IntegerRange(bits, signed=True, narrow=True)
        if codes.shape != self._weight.shape:
            raise ValueError(f"weights of shape {list(self._weight.shape)} have no codes of shape {list(codes.shape)}")
        if codes.min() < grid.q_min or codes.max() > grid.q_max:
            raise ValueError(f"codes of {bits} bits lie in {grid.q_min}..{grid.q_max}, not all of these do")
        return codes.to(self._weight.device, torch.int8)

    @cached_property
    def _inputs(self) -> "_Inputs | None":
        return None if self._hessian is None else _Inputs.of(self._hessian())

    @cached_property
    def _clips(self) -> dict[int, Tensor]:
        return weight_clips(self._weight, channel_axis=self._axis, method=self._method)

    def _stored(self, codes: QuantizedWeight, more: Mapping[str, Tensor] | None = None) -> StoredWeight:
        grid = IntegerRange(codes.bits, signed=True, narrow=True)
        bounds = torch.tensor((grid.q_min, grid.q_max), dtype=torch.int32)
        parts = {"scale": codes.scale, "zero_point": torch.tensor(0, dtype=torch.int32), "range": bounds}
        return StoredWeight(codes.dequantize().to(self._weight), {**parts, **(more or {})}, codes)


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


class KMeansWeights:
    """A codebook of 2^bits centroids for the whole layer (Han et al. 2016)."""

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight

    def quantize(self, bits: int) -> StoredWeight:
        return self.restore(bits, {"codebook": self._codebooks[bits].centroids})

    def restore(self, bits: int, parts: Mapping[str, Tensor]) -> StoredWeight:
        centroids = parts["codebook"].to(self._weight.device)
        if not 1 <= len(centroids) <= 2**bits:
            raise ValueError(f"{bits} bits take up to {2**bits} centroids, not {len(centroids)}")
        nearest = torch.bucketize(self._weight, (centroids[1:] + centroids[:-1]) / 2)
        return StoredWeight(centroids[nearest].to(self._weight), {"codebook": centroids})

    @cached_property
    def _codebooks(self) -> dict[int, Codebook]:
        return kmeans_codebooks(self._weight)


def make_layer_weights(
    name: QuantizerName,
    weight: Tensor,
    *,
    channel_axis: int,
    method: MethodChoice,
    hessian: Callable[[], Tensor] | None = None,
) -> LayerWeights:
    """The weights of one layer, to be quantized by the quantizer of that name; codebooks have no use for Hessians."""
    makers: Mapping[QuantizerName, Callable[[], LayerWeights]] = {
        "linear": lambda: LinearWeights(weight, channel_axis=channel_axis, method=method, hessian=hessian),
        "kmeans": lambda: KMeansWeights(weight),
    }
    return makers[name]()

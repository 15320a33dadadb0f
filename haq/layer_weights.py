"""The weights of one layer at every width, by one of two quantizers: integers with scales, or codebooks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from haq.quantizers.calibration import MethodChoice
from haq.quantizers.kmeans import Codebook, kmeans_codebooks
from haq.quantizers.linear import QuantizedWeight, quantize_to_clips, quantize_to_scale, weight_clips
from haq.quantizers.range import IntegerRange

QuantizerName = Literal["linear", "kmeans"]
QUANTIZERS: tuple[QuantizerName, ...] = get_args(QuantizerName)


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
    """Symmetric integers with a scale for every output channel."""

    def __init__(self, weight: Tensor, *, channel_axis: int, method: MethodChoice) -> None:
        self._weight, self._axis, self._method = weight, channel_axis, method

    def quantize(self, bits: int) -> StoredWeight:
        clip = self._clips[bits]
        return self._stored(quantize_to_clips(self._weight, bits, clip=clip, channel_axis=self._axis))

    def restore(self, bits: int, parts: Mapping[str, Tensor]) -> StoredWeight:
        scale, channels = parts["scale"].to(self._weight.device), self._weight.shape[self._axis]
        if tuple(scale.shape) != (channels,):
            raise ValueError(f"{channels} output channels need as many scales, not {len(scale)}")
        return self._stored(quantize_to_scale(self._weight, bits, scale=scale, channel_axis=self._axis))

    @cached_property
    def _clips(self) -> dict[int, Tensor]:
        return weight_clips(self._weight, channel_axis=self._axis, method=self._method)

    def _stored(self, codes: QuantizedWeight) -> StoredWeight:
        grid = IntegerRange(codes.bits, signed=True, narrow=True)
        bounds = torch.tensor((grid.q_min, grid.q_max), dtype=torch.int32)
        parts = {"scale": codes.scale, "zero_point": torch.tensor(0, dtype=torch.int32), "range": bounds}
        return StoredWeight(codes.dequantize().to(self._weight), parts, codes)


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


def make_layer_weights(name: QuantizerName, weight: Tensor, *, channel_axis: int, method: MethodChoice) -> LayerWeights:
    """The weights of one layer, to be quantized by the quantizer of that name."""
    makers: Mapping[QuantizerName, Callable[[], LayerWeights]] = {
        "linear": lambda: LinearWeights(weight, channel_axis=channel_axis, method=method),
        "kmeans": lambda: KMeansWeights(weight),
    }
    return makers[name]()

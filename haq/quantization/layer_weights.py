"""Weights of one layer at every width, by one of two quantizers: integers with scales, or codebooks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from haq.quantization.calibration import MethodChoice
from haq.quantization.kmeans import Codebook, kmeans_codebooks
from haq.quantization.linear import QuantizedWeight, quantize_to_clips, quantize_to_scale, weight_clips
from haq.quantization.range import weight_range
from haq.quantization.rounding import NearestRounding, WeightRounding
from haq.quantization.weight_scales import ANY_SCALES, ScaleRule, rows_with_scales, stored_scale, with_powers_of_two
from haq.settings import QuantizerName


@dataclass(frozen=True, slots=True, eq=False)
class StoredWeight:
    """Quantized weights of one layer at one bit width.

    Attributes:
        values: Values after quantization, in the shape and dtype of the network's weights.
        parts: Tensors by name from which `LayerWeights.restore` makes the weights again.
        codes: Integer codes and scales; None if the quantizer is not linear.
    """

    values: Tensor
    parts: Mapping[str, Tensor]
    codes: QuantizedWeight | None = None


class LayerWeights(Protocol):
    """Quantizer of the weights of one layer at any bit width; what all widths share is computed once."""

    def quantize(self, bits: int) -> StoredWeight:
        """Quantize the weights; called at most once for each bit width.

        Args:
            bits: Bit width, 1 to 8.

        Returns:
            The quantized weights.

        Raises:
            ValueError: The weights are empty or not finite.
        """
        ...

    def restore(self, bits: int, parts: Mapping[str, Tensor]) -> StoredWeight:
        """Make the quantized weights from stored tensors, without calibration.

        Args:
            bits: Bit width, 1 to 8.
            parts: The `parts` of a result of `quantize` at this bit width.

        Returns:
            The quantized weights.

        Raises:
            KeyError: The tensors are those of another quantizer.
            ValueError: The tensors are those of other weights or another bit width.
        """
        ...


class LinearWeights:
    """Linear quantizer of a layer's weights: integers with zero point 0 and a scale for each output channel.

    Args:
        weight: Weights of the layer, of any shape with at least one axis.
        channel_axis: Axis of the output channels.
        method: Calibration method, or one for each bit width; see `haq.quantization.calibration`.
        rounding: Rounding of the weights; to nearest if None.
        scales: Rule for the scales.
    """

    def __init__(
        self,
        weight: Tensor,
        *,
        channel_axis: int,
        method: MethodChoice,
        rounding: WeightRounding | None = None,
        scales: ScaleRule = ANY_SCALES,
    ) -> None:
        self._weight, self._axis, self._method = weight, channel_axis, method
        self._rounding, self._scales = rounding or NearestRounding(), scales

    def quantize(self, bits: int) -> StoredWeight:
        clip = self._clips[bits].expand(self._weight.shape[self._axis])
        nearest = quantize_to_clips(self._weight, bits, clip=clip, channel_axis=self._axis)
        found = self._rounding.round(self._weight, with_powers_of_two(self._weight, nearest, self._scales))
        return self._stored(found, {"codes": found.codes} if self._rounding.stores_codes else None)

    def restore(self, bits: int, parts: Mapping[str, Tensor]) -> StoredWeight:
        scale, channels = parts["scale"].to(self._weight.device), self._weight.shape[self._axis]
        if tuple(scale.shape) not in ((channels,), ()):
            raise ValueError(f"{channels} output channels need as many scales, not {scale.numel()}")
        nearest = quantize_to_scale(self._weight, bits, scale=scale.expand(channels), channel_axis=self._axis)
        if "codes" not in parts:
            return self._stored(nearest)
        codes = self._given(bits, parts["codes"])
        return self._stored(replace(nearest, codes=codes), {"codes": codes})

    def _given(self, bits: int, codes: Tensor) -> Tensor:
        grid = weight_range(bits)
        if codes.shape != self._weight.shape:
            raise ValueError(f"weights of shape {list(self._weight.shape)} have no codes of shape {list(codes.shape)}")
        if codes.min() < grid.q_min or codes.max() > grid.q_max:
            raise ValueError(f"codes of {bits} bits lie in {grid.q_min}..{grid.q_max}, not all of these do")
        return codes.to(self._weight.device, torch.int8)

    @cached_property
    def _clips(self) -> dict[int, Tensor]:
        rows, axis = rows_with_scales(self._weight, self._axis, self._scales)
        return weight_clips(rows, channel_axis=axis, method=self._method)

    def _stored(self, codes: QuantizedWeight, more: Mapping[str, Tensor] | None = None) -> StoredWeight:
        grid = weight_range(codes.bits)
        bounds = torch.tensor((grid.q_min, grid.q_max), dtype=torch.int32)
        parts = {
            "scale": stored_scale(codes.scale, self._scales),
            "zero_point": torch.tensor(0, dtype=torch.int32),
            "range": bounds,
        }
        return StoredWeight(codes.dequantize().to(self._weight), {**parts, **(more or {})}, codes)


class KMeansWeights:
    """Codebook of at most 2^bits centroids for the whole layer (Han et al. 2016).

    Args:
        weight: Weights of the layer, of any shape.
    """

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
    rounding: WeightRounding | None = None,
    scales: ScaleRule = ANY_SCALES,
) -> LayerWeights:
    """Create the quantizer of a layer's weights.

    Args:
        name: Name of the quantizer.
        weight: Weights of the layer, of any shape with at least one axis.
        channel_axis: Axis of the output channels.
        method: Calibration method, or one for each bit width; used by `linear`.
        rounding: Rounding of the weights, used by `linear`; to nearest if None.
        scales: Rule for the scales, used by `linear`.

    Returns:
        The quantizer.
    """
    makers: Mapping[QuantizerName, Callable[[], LayerWeights]] = {
        "linear": lambda: LinearWeights(
            weight, channel_axis=channel_axis, method=method, rounding=rounding, scales=scales
        ),
        "kmeans": lambda: KMeansWeights(weight),
    }
    return makers[name]()

"""Corrections of the shift in means and variances that quantization causes, from one pass over a few images.

If a batch norm follows a layer, its running mean and variance are re-estimated on the quantized network; otherwise a
scale and a bias per channel restore the variance and the mean of the layer's output to those of the float network. The
scale becomes part of the scales of the layer's weights. Where weights have none of their own, only the bias is
corrected (empirical bias correction, Nagel et al. 2019, arXiv 1906.04721). All are relative to the float network on the
same images, so that a policy that changes nothing is not corrected by the sampling error of a few images. Every layer
sees the corrected outputs of the layers before it.
"""

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from haq.execution.networks import run_network
from haq.execution.structures import Structure
from haq.network.layer_calls import LayerCalls, LayerIndex, NormCall
from haq.network.tracing.weighted_calls import Call
from haq.quantization.moments import Moments, channel_moments
from hardware_sim.layer import LayerKind

UNCORRECTED_KINDS: tuple[LayerKind, ...] = ("recurrent", "matmul")
"""Kinds of layers whose outputs are not corrected."""
LARGEST_SCALE = 2.0
"""Largest correction of a scale; the smallest is its reciprocal."""
RELATIVE_EPSILON = 1e-5
"""Added to variances before they are divided, in units of the mean variance of the layer's channels."""
Arguments = Mapping[str, Any]
"""Arguments of a batch norm, by name."""


@dataclass(frozen=True, slots=True, eq=False)
class Corrections:
    """Corrections of the outputs of layers and the statistics of batch norms; empty ones change nothing.

    Attributes:
        statistics: Mean and variance by batch norm call, [channels] each.
        biases: Bias to add to a layer's output by its position, [c_out].
        scales: Factor of a layer's output, before the bias is added, by its position, [c_out] above 0.
    """

    statistics: Mapping[NormCall, Moments] = field(default_factory=dict)
    biases: Mapping[int, Tensor] = field(default_factory=dict)
    scales: Mapping[int, Tensor] = field(default_factory=dict)

    def correct(self, layer: int, call: Call, output: Tensor) -> Tensor:
        """Multiply a layer's output with its scale and add its bias.

        Args:
            layer: Position of the layer.
            call: Its call.
            output: Result of the call.

        Returns:
            The corrected output.
        """
        scale, bias = self.scales.get(layer), self.biases.get(layer)
        if scale is not None:
            output = output * _along_channels(scale, call, output)
        return output if bias is None else output + _along_channels(bias, call, output)

    def normalize(self, norm: NormCall, arguments: Arguments) -> Tensor:
        """Compute a batch norm with its corrected statistics.

        Args:
            norm: Call of the batch norm.
            arguments: Arguments by name.

        Returns:
            Output of the batch norm.
        """
        return _batch_norm(arguments, self.statistics.get(norm))

    def tensors(self, layer_names: tuple[str, ...]) -> dict[str, Tensor]:
        """Return all corrections by name, as they are stored in files.

        Args:
            layer_names: Names of the layers, in order.

        Returns:
            Statistics under the path of their buffer, scales and biases under the name of their layer.
        """
        found = {f"{layer_names[layer]}.output.bias": bias for layer, bias in self.biases.items()}
        found |= {f"{layer_names[layer]}.output.scale": scale for layer, scale in self.scales.items()}
        for (path, number), moments in self.statistics.items():
            for part, value in zip(("mean", "variance"), moments, strict=True):
                found[f"{path}:{number}.{part}"] = value
        return found

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], layer_names: tuple[str, ...]) -> "Corrections":
        """Build corrections from the result of `tensors`; other entries are ignored.

        Args:
            tensors: Tensors by name.
            layer_names: Names of the layers, in order.

        Returns:
            The corrections.
        """
        biases, scales = (
            {
                layer: tensors[f"{name}.output.{part}"]
                for layer, name in enumerate(layer_names)
                if f"{name}.output.{part}" in tensors
            }
            for part in ("bias", "scale")
        )
        statistics: dict[NormCall, Moments] = {}
        for key, mean in tensors.items():
            path, _, number = key.removesuffix(".mean").rpartition(":")
            if path and key.endswith(".mean"):
                statistics[path, int(number)] = (mean, tensors[f"{path}:{number}.variance"])
        return cls(statistics, biases, scales)


@dataclass(frozen=True, slots=True, eq=False)
class FloatStatistics:
    """Statistics of the float network on the images of the corrections.

    Attributes:
        outputs: Mean and variance of the output of each layer that no batch norm reads, by position, [c_out] each.
        moments: Mean and variance of the input of each batch norm call, [channels] each.
    """

    outputs: Mapping[int, Moments]
    moments: Mapping[NormCall, Moments]


class Corrector:
    """Estimator of corrections: each policy takes one forward pass over the same images.

    Args:
        model: Float network.
        index: Index of its layers and batch norms.
        images: Inputs of the forward passes, [n, ...].
        quantized: Function that computes a layer, from its position and its call, with the bits that are set at the
            time.
        is_scalable: Function that returns whether the output of a layer may be scaled, with these bits.

    Attributes:
        images: Inputs of the forward passes.
    """

    def __init__(
        self,
        model: nn.Module,
        index: LayerIndex,
        images: Structure,
        *,
        quantized: Callable[[int, Call], Tensor],
        is_scalable: Callable[[int], bool],
    ) -> None:
        self._model, self._index, self._quantized, self._is_scalable = model, index, quantized, is_scalable
        self.images = images

    def with_layers(self, quantized: Callable[[int, Call], Tensor]) -> "Corrector":
        """Return a corrector for another layer function that reuses the float statistics.

        Args:
            quantized: Function that computes a layer, from its position and its call.

        Returns:
            The corrector.
        """
        other = Corrector(self._model, self._index, self.images, quantized=quantized, is_scalable=self._is_scalable)
        other.floats = self.floats
        return other

    @torch.no_grad()
    def find(self) -> Corrections:
        """Compute the corrections for the bits that are set at the time.

        Returns:
            The corrections.
        """
        floats = self.floats
        statistics: dict[NormCall, Moments] = {}
        biases: dict[int, Tensor] = {}
        scales: dict[int, Tensor] = {}
        found = Corrections(statistics, biases, scales)

        def compute(layer: int, call: Call) -> Tensor:
            output = self._quantized(layer, call)
            if layer not in floats.outputs:
                return output
            reference, axis = floats.outputs[layer], _channel_axis(call, output)
            if self._is_scalable(layer):
                mean, variance = channel_moments(output, axis)
                scales[layer] = _restoring_scale(variance, reference[1])
                biases[layer] = reference[0] - scales[layer] * mean
            else:
                biases[layer] = reference[0] - _channel_mean(output, axis)
            return found.correct(layer, call, output)

        def normalize(norm: NormCall, arguments: Arguments) -> Tensor:
            statistics[norm] = _moved(arguments, floats.moments[norm])
            return found.normalize(norm, arguments)

        run_network(self._model, self.images, LayerCalls(self._index, compute, normalize))
        return found

    @cached_property
    @torch.no_grad()
    def floats(self) -> FloatStatistics:
        """Statistics of the float network, computed once."""
        outputs: dict[int, Moments] = {}
        moments: dict[NormCall, Moments] = {}
        # Layer by output; weak references, since all activations together may not fit into memory.
        layer_of: MutableMapping[Tensor, int] = WeakIdKeyDictionary()

        def compute(layer: int, call: Call) -> Tensor:
            output = call.run(call.input, call.factor)
            # The mean of a recurrent layer differs between steps; a product of activations has no bias.
            if call.operation.kind not in UNCORRECTED_KINDS:
                layer_of[output] = layer
                outputs[layer] = channel_moments(output, _channel_axis(call, output))
            return output

        def normalize(norm: NormCall, arguments: Arguments) -> Tensor:
            moments[norm] = channel_moments(arguments["input"])
            if arguments["input"] in layer_of:
                outputs.pop(layer_of[arguments["input"]], None)  # another norm may read the same layer
            return _batch_norm(arguments, None)

        run_network(self._model, self.images, LayerCalls(self._index, compute, normalize))
        return FloatStatistics(outputs, moments)


def _moved(arguments: Arguments, reference: Moments) -> Moments:
    """Return the running statistics, changed as much as those of the input differ from the float network's."""
    mean, variance = channel_moments(arguments["input"])
    eps = arguments["eps"]
    ratio = (variance + eps) / (reference[1] + eps)
    return arguments["running_mean"] + (mean - reference[0]), arguments["running_var"] * ratio


def _batch_norm(arguments: Arguments, moments: Moments | None) -> Tensor:
    statistics = {} if moments is None else {"running_mean": moments[0], "running_var": moments[1]}
    return F.batch_norm(**{**arguments, **statistics})


def _restoring_scale(variance: Tensor, reference: Tensor) -> Tensor:
    """Return the factors [channels] that restore the standard deviations of outputs, within the largest scale."""
    epsilon = variance_epsilon(reference)
    ratio = (reference + epsilon) / (variance + epsilon)
    return ratio.sqrt().clamp(1 / LARGEST_SCALE, LARGEST_SCALE)


def variance_epsilon(reference: Tensor) -> float:
    """Return what is added to the variances of a layer's output before they are divided.

    Args:
        reference: Variances of the float network's output, [channels].

    Returns:
        The number, above 0.
    """
    return max(RELATIVE_EPSILON * reference.mean().item(), torch.finfo(torch.float32).tiny)


def _channel_mean(output: Tensor, axis: int) -> Tensor:
    return output.float().mean(dim=[dim for dim in range(output.ndim) if dim != axis])


def _along_channels(bias: Tensor, call: Call, output: Tensor) -> Tensor:
    axis = _channel_axis(call, output)
    return bias.to(output.dtype).reshape([-1 if dim == axis else 1 for dim in range(output.ndim)])


def _channel_axis(call: Call, output: Tensor) -> int:
    """Return the axis of the channels: before the spatial dimensions for convolutions, else the last."""
    return output.ndim - 1 - call.operation.spatial_dims

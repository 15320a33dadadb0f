"""Corrections of the shift in means and variances that quantization causes, from one pass over a few images.

If a batch norm follows a layer, its running mean and variance are re-estimated on the quantized network; otherwise a
bias per channel restores the layer's mean output to that of the float network (empirical bias correction, Nagel et al.
2019, arXiv 1906.04721). Both are relative to the float network on the same images, so that a policy that changes
nothing is not corrected by the sampling error of a few images. Every layer sees the corrected outputs of the layers
before it.
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
Arguments = Mapping[str, Any]
"""Arguments of a batch norm, by name."""


@dataclass(frozen=True, slots=True, eq=False)
class Corrections:
    """Corrections of the biases of layers and the statistics of batch norms; empty ones change nothing.

    Attributes:
        statistics: Mean and variance by batch norm call, [channels] each.
        biases: Bias to add to a layer's output by its position, [c_out].
    """

    statistics: Mapping[NormCall, Moments] = field(default_factory=dict)
    biases: Mapping[int, Tensor] = field(default_factory=dict)

    def shift(self, layer: int, call: Call, output: Tensor) -> Tensor:
        """Add the bias of a layer to its output.

        Args:
            layer: Position of the layer.
            call: Its call.
            output: Result of the call.

        Returns:
            The corrected output.
        """
        bias = self.biases.get(layer)
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
            Statistics under the path of their buffer, biases under the name of their layer.
        """
        found = {f"{layer_names[layer]}.output.bias": bias for layer, bias in self.biases.items()}
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
        biases = {
            layer: tensors[f"{name}.output.bias"]
            for layer, name in enumerate(layer_names)
            if f"{name}.output.bias" in tensors
        }
        statistics: dict[NormCall, Moments] = {}
        for key, mean in tensors.items():
            path, _, number = key.removesuffix(".mean").rpartition(":")
            if path and key.endswith(".mean"):
                statistics[path, int(number)] = (mean, tensors[f"{path}:{number}.variance"])
        return cls(statistics, biases)


@dataclass(frozen=True, slots=True, eq=False)
class FloatStatistics:
    """Statistics of the float network on the images of the corrections.

    Attributes:
        means: Mean output [c_out] of each layer that no batch norm reads, by position.
        moments: Mean and variance of the input of each batch norm call, [channels] each.
    """

    means: Mapping[int, Tensor]
    moments: Mapping[NormCall, Moments]


class Corrector:
    """Estimator of corrections: each policy takes one forward pass over the same images.

    Args:
        model: Float network.
        index: Index of its layers and batch norms.
        images: Inputs of the forward passes, [n, ...].
        quantized: Function that computes a layer, from its position and its call, with the bits that are set at the
            time.

    Attributes:
        images: Inputs of the forward passes.
    """

    def __init__(
        self, model: nn.Module, index: LayerIndex, images: Structure, *, quantized: Callable[[int, Call], Tensor]
    ) -> None:
        self._model, self._index, self._quantized = model, index, quantized
        self.images = images

    def with_layers(self, quantized: Callable[[int, Call], Tensor]) -> "Corrector":
        """Return a corrector for another layer function that reuses the float statistics.

        Args:
            quantized: Function that computes a layer, from its position and its call.

        Returns:
            The corrector.
        """
        other = Corrector(self._model, self._index, self.images, quantized=quantized)
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
        found = Corrections(statistics, biases)

        def compute(layer: int, call: Call) -> Tensor:
            output = self._quantized(layer, call)
            if layer in floats.means:
                biases[layer] = floats.means[layer] - _channel_mean(call, output)
            return found.shift(layer, call, output)

        def normalize(norm: NormCall, arguments: Arguments) -> Tensor:
            statistics[norm] = _moved(arguments, floats.moments[norm])
            return found.normalize(norm, arguments)

        run_network(self._model, self.images, LayerCalls(self._index, compute, normalize))
        return found

    @cached_property
    @torch.no_grad()
    def floats(self) -> FloatStatistics:
        """Statistics of the float network, computed once."""
        means: dict[int, Tensor] = {}
        moments: dict[NormCall, Moments] = {}
        # Layer by output; weak references, since all activations together may not fit into memory.
        layer_of: MutableMapping[Tensor, int] = WeakIdKeyDictionary()

        def compute(layer: int, call: Call) -> Tensor:
            output = call.run(call.input, call.factor)
            # The mean of a recurrent layer differs between steps; a product of activations has no bias.
            if call.operation.kind not in UNCORRECTED_KINDS:
                layer_of[output] = layer
                means[layer] = _channel_mean(call, output)
            return output

        def normalize(norm: NormCall, arguments: Arguments) -> Tensor:
            moments[norm] = channel_moments(arguments["input"])
            if arguments["input"] in layer_of:
                means.pop(layer_of[arguments["input"]], None)  # another norm may read the same layer
            return _batch_norm(arguments, None)

        run_network(self._model, self.images, LayerCalls(self._index, compute, normalize))
        return FloatStatistics(means, moments)


def _moved(arguments: Arguments, reference: Moments) -> Moments:
    """Return the running statistics, changed as much as those of the input differ from the float network's."""
    mean, variance = channel_moments(arguments["input"])
    eps = arguments["eps"]
    ratio = (variance + eps) / (reference[1] + eps)
    return arguments["running_mean"] + (mean - reference[0]), arguments["running_var"] * ratio


def _batch_norm(arguments: Arguments, moments: Moments | None) -> Tensor:
    statistics = {} if moments is None else {"running_mean": moments[0], "running_var": moments[1]}
    return F.batch_norm(**{**arguments, **statistics})


def _channel_mean(call: Call, output: Tensor) -> Tensor:
    axis = _channel_axis(call, output)
    return output.float().mean(dim=[dim for dim in range(output.ndim) if dim != axis])


def _along_channels(bias: Tensor, call: Call, output: Tensor) -> Tensor:
    axis = _channel_axis(call, output)
    return bias.to(output.dtype).reshape([-1 if dim == axis else 1 for dim in range(output.ndim)])


def _channel_axis(call: Call, output: Tensor) -> int:
    """Return the axis of the channels: before the spatial dimensions for convolutions, else the last."""
    return output.ndim - 1 - call.operation.spatial_dims

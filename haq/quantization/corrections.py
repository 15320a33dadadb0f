"""Make up for the shift that quantization brings into a network's statistics, from one pass over a few images.

Where a batch norm follows, its running mean and variance are re-estimated on the quantized network; elsewhere a layer's
mean output is brought back to the float network's by a bias for every channel (empirical bias correction, Nagel et al.
2019, arXiv 1906.04721). Both are taken relative to the float network on the same images, so that a policy that changes
nothing is not corrected by the noise of a small sample. Every layer sees the corrected outputs of those before it.
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
from haq.network.layer_calls import LayerCalls, LayerIndex, NormCall
from haq.network.tracing.weighted_calls import Call

Moments = tuple[Tensor, Tensor]
"""Mean and variance of every channel."""
Arguments = Mapping[str, Any]
"""Those of a batch norm, by name."""


@dataclass(frozen=True, slots=True, eq=False)
class Corrections:
    """Running statistics for batch norms, and output biases [c_out] for layers by position; none corrects nothing."""

    statistics: Mapping[NormCall, Moments] = field(default_factory=dict)
    biases: Mapping[int, Tensor] = field(default_factory=dict)

    def shift(self, layer: int, call: Call, output: Tensor) -> Tensor:
        """A layer's output with its bias."""
        bias = self.biases.get(layer)
        return output if bias is None else output + _along_channels(bias, call, output)

    def normalize(self, norm: NormCall, arguments: Arguments) -> Tensor:
        """What a batch norm answers with its statistics."""
        return _batch_norm(arguments, self.statistics.get(norm))

    def tensors(self, layer_names: tuple[str, ...]) -> dict[str, Tensor]:
        """Everything by name, as a file keeps it: statistics under their buffer's path, biases under the layer's."""
        found = {f"{layer_names[layer]}.output.bias": bias for layer, bias in self.biases.items()}
        for (path, number), moments in self.statistics.items():
            for part, value in zip(("mean", "variance"), moments, strict=True):
                found[f"{path}:{number}.{part}"] = value
        return found

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], layer_names: tuple[str, ...]) -> "Corrections":
        """What `tensors` gave; other entries are passed over."""
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
    """What the float network does on the images that corrections come from."""

    means: Mapping[int, Tensor]
    """Mean outputs [c_out] of the layers that no batch norm reads, by position."""
    moments: Mapping[NormCall, Moments]
    """Of the inputs of batch norms."""


class Corrector:
    """Finds the corrections of one policy after another, each in one forward pass over the same images.

    `quantized` answers a layer's call with the bits that are set at the time.
    """

    def __init__(
        self, model: nn.Module, index: LayerIndex, images: Tensor, *, quantized: Callable[[int, Call], Tensor]
    ) -> None:
        self._model, self._index, self._quantized = model, index, quantized
        self.images = images

    def with_layers(self, quantized: Callable[[int, Call], Tensor]) -> "Corrector":
        """Return a corrector for other layer functions that reuses the float statistics."""
        other = Corrector(self._model, self._index, self.images, quantized=quantized)
        other.floats = self.floats
        return other

    @torch.no_grad()
    def find(self) -> Corrections:
        """The corrections for the bits that are set now."""
        floats = self.floats
        statistics: dict[NormCall, Moments] = {}
        biases: dict[int, Tensor] = {}
        found = Corrections(statistics, biases)

        def answer(layer: int, call: Call) -> Tensor:
            output = self._quantized(layer, call)
            if layer in floats.means:
                biases[layer] = floats.means[layer] - _channel_mean(call, output)
            return found.shift(layer, call, output)

        def normalize(norm: NormCall, arguments: Arguments) -> Tensor:
            statistics[norm] = _moved(arguments, floats.moments[norm])
            return found.normalize(norm, arguments)

        run_network(self._model, self.images, LayerCalls(self._index, answer, normalize))
        return found

    @cached_property
    @torch.no_grad()
    def floats(self) -> FloatStatistics:
        """The mean outputs of the float network's layers, and what its batch norms see; found once."""
        means: dict[int, Tensor] = {}
        moments: dict[NormCall, Moments] = {}
        # By output; weak, as all activations together may not fit into memory.
        layer_of: MutableMapping[Tensor, int] = WeakIdKeyDictionary()

        def answer(layer: int, call: Call) -> Tensor:
            output = call.run(call.input, call.weight)
            if call.operation.kind != "recurrent":  # a step has another mean than the next
                layer_of[output] = layer
                means[layer] = _channel_mean(call, output)
            return output

        def normalize(norm: NormCall, arguments: Arguments) -> Tensor:
            moments[norm] = _moments(arguments["input"])
            if arguments["input"] in layer_of:
                means.pop(layer_of[arguments["input"]], None)  # another norm may read the same layer
            return _batch_norm(arguments, None)

        run_network(self._model, self.images, LayerCalls(self._index, answer, normalize))
        return FloatStatistics(means, moments)


def _moved(arguments: Arguments, reference: Moments) -> Moments:
    """The running statistics, moved as far as the input's have moved from the float network's."""
    mean, variance = _moments(arguments["input"])
    eps = arguments["eps"]
    ratio = (variance + eps) / (reference[1] + eps)
    return arguments["running_mean"] + (mean - reference[0]), arguments["running_var"] * ratio


def _moments(x: Tensor) -> Moments:
    variance, mean = torch.var_mean(x.float(), dim=[dim for dim in range(x.ndim) if dim != 1], correction=0)
    return mean, variance


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
    """Convolutions have their channels before the spatial dimensions, everything else last."""
    return output.ndim - 1 - call.operation.spatial_dims

"""The traced layers, and the batch norms, of a network that is running, in place of what they do by themselves."""

from collections import defaultdict
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from haq.errors import UserError
from haq.execution.networks import run_network
from haq.network.layers import Site, Trace
from haq.network.tracing.names import LayerName, part_of
from haq.network.tracing.weighted_calls import Call, WeightedCalls, WeightIndex, WeightSlice, is_layer

NormCall = tuple[str, int]
"""A batch norm as it is called: the path of its running mean, and which of its calls in a forward pass."""
_NORM_ARGUMENTS = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")


class LayerIndex:
    """Where the traced layers and the batch norms of one network are."""

    def __init__(self, model: nn.Module, sites: Sequence[Site]) -> None:
        self.weights = WeightIndex(model)
        self.layers = {(site.weights, site.call): layer for layer, site in enumerate(sites)}
        self.norms = {id(buffer): name for name, buffer in model.named_buffers()}


@dataclass(slots=True)
class CallCount:
    """How often weights were called, and how many of these calls the trace of the network does not have."""

    calls: int = 0
    untraced: int = 0


class LayerCalls(WeightedCalls):
    """While active, hands each call of a traced layer to `answer`, and each batch norm to `normalize` if given.

    Other calls with weights, which the example input of the trace did not make, run as they are and are counted in
    `counts`, where that is given.

    Good for one forward pass: it counts the calls of what is used more than once.
    """

    def __init__(
        self,
        index: LayerIndex,
        answer: Callable[[int, Call], Tensor],
        normalize: Callable[[NormCall, Mapping[str, Any]], Tensor] | None = None,
        *,
        counts: MutableMapping[WeightSlice, CallCount] | None = None,
    ) -> None:
        super().__init__()
        self._counts = counts
        self._index, self._answer, self._normalize = index, answer, normalize
        self._calls: defaultdict[Any, int] = defaultdict(int)

    def weighted(self, call: Call) -> Tensor:
        weights = self._index.weights.find(call.weight)
        number = self._calls[weights] if call.continues else self._count(weights)
        layer = self._index.layers.get((weights, number)) if weights else None
        if self._counts is not None and weights and is_layer(call, weights) and not call.continues:
            count = self._counts.setdefault(weights, CallCount())
            count.calls += 1
            count.untraced += layer is None
        return super().weighted(call) if layer is None else self._answer(layer, call)

    def other(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if self._normalize is None or function is not F.batch_norm:
            return function(*args, **kwargs)
        arguments = {**dict(zip(_NORM_ARGUMENTS, args, strict=False)), **kwargs}
        name = self._index.norms.get(id(arguments.get("running_mean")))
        if name is None or arguments.get("training"):
            return function(*args, **kwargs)
        return self._normalize((name, self._count(name)), arguments)

    def _count(self, what: Any) -> int:
        self._calls[what] += 1
        return self._calls[what]


def require_float_layers(network: nn.Module, trace: Trace, example: Tensor) -> None:
    """Raise UserError, naming the layer, where one computes in another type than float32, as under autocast."""

    def check(layer: int, call: Call) -> Tensor:
        output = call.run(call.input, call.weight)
        if output.is_floating_point() and output.dtype != torch.float32:
            raise UserError(
                f"layer {trace.layers[layer].name} computes in {output.dtype}; haq quantizes float32 networks: "
                "leave out what casts there, such as torch.autocast"
            )
        return output

    with torch.no_grad():
        run_network(network, example, LayerCalls(LayerIndex(network, trace.sites), check))


def untraced_text(model: nn.Module, counts: Mapping[WeightSlice, CallCount]) -> str | None:
    """A warning of calls on the calibration inputs that the trace does not have; None where it has all."""
    parts = [
        f"{_name(model, weights)} ({count.untraced} of {count.calls} calls)"
        for weights, count in counts.items()
        if count.untraced
    ]
    if not parts:
        return None
    more = f" and {len(parts) - 3} more" if len(parts) > 3 else ""
    return (
        f"the calibration inputs call layers that the example input does not: {', '.join(parts[:3])}{more}; "
        "these calls run in float and are not priced"
    )


def _name(model: nn.Module, weights: WeightSlice) -> str:
    path, _, leaf = weights.parameter.rpartition(".")
    return LayerName.of(path, leaf, part_of(model.get_parameter(weights.parameter).shape, weights)).short


def weight_of(model: nn.Module, site: Site) -> Tensor:
    """The weights of a layer, without gradient: a parameter, or the part of one that the layer uses."""
    parameter = model.get_parameter(site.weights.parameter).detach()
    if tuple(parameter.shape) == site.weights.shape:
        return parameter
    start = site.weights.offset
    return parameter.flatten()[start : start + prod(site.weights.shape)].view(site.weights.shape)

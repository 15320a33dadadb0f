"""Function mode that replaces the calls of traced layers and of batch norms while a network runs."""

from collections import defaultdict
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from haq.errors import UserError
from haq.execution.networks import run_network
from haq.execution.structures import Structure
from haq.network.layers import Site, Trace
from haq.network.tracing.call_mode import MultiplicationMode
from haq.network.tracing.names import LayerName, part_of
from haq.network.tracing.products import ActivationProduct
from haq.network.tracing.running_modules import RunningModules
from haq.network.tracing.weighted_calls import Call, WeightIndex, WeightSlice, is_layer

NormCall = tuple[str, int]
"""Call of a batch norm: path of its running mean, and the number of the call in a forward pass, from 1."""
_NORM_ARGUMENTS = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")


class LayerIndex:
    """Index of the traced layers and the batch norms of a network.

    Args:
        model: Network.
        sites: Positions of the layers, in the order of the trace.

    Attributes:
        model: The network.
        weights: Index of parameters by tensor.
        layers: Position of a layer by its weights, or the place of its product, and the number of their call.
        transposed: Whether the layers of a parameter read it transposed, by its name.
        has_products: Whether a layer multiplies two activations.
        norms: Name of a buffer by the id of its tensor.
    """

    def __init__(self, model: nn.Module, sites: Sequence[Site]) -> None:
        self.model, self.weights = model, WeightIndex(model)
        self._sites = tuple(sites)
        self.has_products = any(isinstance(site.weights, ActivationProduct) for site in sites)
        self.layers = {(site.weights, site.call): layer for layer, site in enumerate(sites)}
        slices = [site.weights for site in sites if isinstance(site.weights, WeightSlice)]
        self.transposed = {each.parameter: each.is_transposed for each in slices}
        self.norms = {id(buffer): name for name, buffer in model.named_buffers()}

    def __reduce__(self) -> tuple[Any, ...]:
        return LayerIndex, (self.model, self._sites)  # ids differ in another process


@dataclass(slots=True)
class CallCount:
    """Number of calls of some weights.

    Attributes:
        calls: All calls.
        untraced: Calls that are not in the trace of the network.
    """

    calls: int = 0
    untraced: int = 0


class LayerCalls(MultiplicationMode):
    """Function mode that passes each call of a traced layer, and optionally of a batch norm, to a function.

    Calls with weights that are not in the trace, since the example input did not make them, run unchanged. An instance
    is good for one forward pass: it counts the calls of weights that are used more than once.

    Args:
        index: Index of the network.
        compute: Function that computes a layer, from its position and its call.
        normalize: Function that computes a batch norm in evaluation mode, from its call and its arguments; if None they
            run unchanged.
        counts: Counters of calls, which are updated if given.

    In a network without layers that multiply two activations, such products and attention run as they are.
    """

    def __init__(
        self,
        index: LayerIndex,
        compute: Callable[[int, Call], Tensor],
        normalize: Callable[[NormCall, Mapping[str, Any]], Tensor] | None = None,
        *,
        counts: MutableMapping[WeightSlice | ActivationProduct, CallCount] | None = None,
    ) -> None:
        super().__init__(RunningModules(index.model) if index.has_products else None, weights=index.weights)
        self._counts = counts
        self._index, self._compute, self._normalize = index, compute, normalize
        self._calls: defaultdict[Any, int] = defaultdict(int)

    def weighted(self, call: Call) -> Tensor:
        weights = self._index.weights.find(call.factor)
        if weights and self._index.transposed.get(weights.parameter, weights.is_transposed) != weights.is_transposed:
            return super().weighted(call)  # stays in float, as the trace says
        number = self._calls[weights] if call.continues else self._count(weights)
        layer = self._index.layers.get((weights, number)) if weights else None
        if weights and is_layer(call, weights) and not call.continues:
            self._note(weights, layer)
        return super().weighted(call) if layer is None else self._compute(layer, call)

    def multiplied(self, product: ActivationProduct, call: Call) -> Tensor:
        layer = self._index.layers.get((product, self._count(product)))
        if (product, 1) in self._index.layers:  # other products are not of two activations
            self._note(product, layer)
        return super().multiplied(product, call) if layer is None else self._compute(layer, call)

    def other(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if self._normalize is None or function is not F.batch_norm:
            return function(*args, **kwargs)
        arguments = {**dict(zip(_NORM_ARGUMENTS, args, strict=False)), **kwargs}
        name = self._index.norms.get(id(arguments.get("running_mean")))
        if name is None or arguments.get("training"):
            return function(*args, **kwargs)
        return self._normalize((name, self._count(name)), arguments)

    def _note(self, weights: WeightSlice | ActivationProduct, layer: int | None) -> None:
        if self._counts is not None:
            count = self._counts.setdefault(weights, CallCount())
            count.calls += 1
            count.untraced += layer is None

    def _count(self, what: Any) -> int:
        self._calls[what] += 1
        return self._calls[what]


def require_float_layers(network: nn.Module, trace: Trace, example: Structure) -> None:
    """Require that all layers compute in float32.

    Args:
        network: Network to run.
        trace: Its trace.
        example: Input that it was traced with.

    Raises:
        UserError: A layer computes in another dtype, as under autocast; the message names the layer.
    """

    def check(layer: int, call: Call) -> Tensor:
        output = call.run(call.input, call.factor)
        if output.is_floating_point() and output.dtype != torch.float32:
            raise UserError(
                f"layer {trace.layers[layer].name} computes in {output.dtype}; haq quantizes float32 networks: "
                "leave out what casts there, such as torch.autocast"
            )
        return output

    with torch.no_grad():
        run_network(network, example, LayerCalls(LayerIndex(network, trace.sites), check))


def untraced_text(model: nn.Module, counts: Mapping[WeightSlice | ActivationProduct, CallCount]) -> str | None:
    """Return a warning about calls on the calibration inputs that the trace does not have.

    Args:
        model: Network.
        counts: Counters of calls by weights.

    Returns:
        The warning; None if the trace has all calls.
    """
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


def _name(model: nn.Module, weights: WeightSlice | ActivationProduct) -> str:
    if isinstance(weights, ActivationProduct):
        return weights.name
    path, _, leaf = weights.parameter.rpartition(".")
    return LayerName.of(path, leaf, part_of(model.get_parameter(weights.parameter).shape, weights)).short


def weight_of(model: nn.Module, site: Site) -> Tensor:
    """Return the weights of a layer, without gradient.

    Args:
        model: Network.
        site: Position of the layer, which has weights.

    Returns:
        The parameter, or the part of it that the layer uses.
    """
    assert isinstance(site.weights, WeightSlice), "a product of two activations has no weights"
    return site.weights.of(model.get_parameter(site.weights.parameter).detach())

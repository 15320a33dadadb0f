"""A network that learns with a policy on it: its own weights, and a quantizer for every layer's weights and input."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from haq.errors import UserError
from haq.execution.networks import call_network
from haq.execution.structures import Structure
from haq.execution.user_code import one_line
from haq.network.layer_calls import LayerCalls, LayerIndex
from haq.network.layers import Trace
from haq.network.tracing.weighted_calls import Call
from haq.policy import PolicyBits
from haq.quantization.adaptive import AdaptiveQuantizer
from haq.quantization.training.initialization import (
    Initializer,
    LearnedShift,
    input_quantizer,
    owners,
    weight_quantizer,
)

_DEPLOYED = ("scale", "zero_point", "range")
"""What a network that no longer learns needs of a quantizer, derived from what learns."""


class TrainableNetwork(nn.Module):
    """A copy of a network in which every traced layer's weights and input go through adaptive quantizers.

    The weights stay the copy's own parameters, under their own names; layers that share weights share their quantizer.
    Layers without bits stay in float. The network that was given is not changed.
    """

    def __init__(
        self,
        model: nn.Module,
        trace: Trace,
        *,
        weights: Mapping[int, AdaptiveQuantizer],
        inputs: Mapping[int, AdaptiveQuantizer],
    ) -> None:
        super().__init__()
        # Channels-last, as images come: convolutions on a CPU are faster so.
        self.model = deepcopy(model).to(memory_format=torch.channels_last).requires_grad_()
        self.trace = trace
        self.owners = owners(trace)
        self.weights = nn.ModuleDict({str(layer): quantizer for layer, quantizer in weights.items()})
        self.inputs = nn.ModuleDict({str(layer): quantizer for layer, quantizer in inputs.items()})

    def forward(self, *inputs: Any, **named: Any) -> Structure:
        """Call the network, quantized, with the same arguments."""
        # Built anew for every pass: a copy of this network, or a move to a device, has other tensors.
        calls = LayerCalls(LayerIndex(self.model, self.trace.sites), self._answer)
        return call_network(self.model, inputs, named, calls)

    def _answer(self, layer: int, call: Call) -> Tensor:
        weights, inputs = str(self.owners[layer]), str(layer)
        weight = self.weights[weights](call.weight) if weights in self.weights else call.weight
        return call.run(self.inputs[inputs](call.input) if inputs in self.inputs else call.input, weight)

    def quantizers(self) -> Iterator[tuple[str, AdaptiveQuantizer]]:
        """All quantizers, as `LAYER.weight` and `LAYER.input`."""
        for kind, group in (("weight", self.weights), ("input", self.inputs)):
            for layer, quantizer in group.items():
                assert isinstance(quantizer, AdaptiveQuantizer)
                yield f"{self.trace.layers[int(layer)].name}.{kind}", quantizer

    def quantized_weights(self) -> Iterator[tuple[nn.Parameter, AdaptiveQuantizer]]:
        """The parameters that a quantizer takes whole, each with it; a layer may also use a part of a parameter."""
        for layer, quantizer in self.weights.items():
            site = self.trace.sites[int(layer)].weights
            parameter = self.model.get_parameter(site.parameter)
            assert isinstance(quantizer, AdaptiveQuantizer)
            if tuple(parameter.shape) == site.shape:
                yield parameter, quantizer

    def quantizer_tensors(self) -> dict[str, Tensor]:
        """All quantizers by name: what learned, and the `scale`, `zero_point` and `range` that come of it."""
        found: dict[str, Tensor] = {}
        for name, quantizer in self.quantizers():
            state = quantizer.state_dict()
            deployed = (quantizer.scale.detach(), quantizer.zero_point, quantizer.code_range)
            found |= {f"{name}.{part}": value for part, value in state.items()}
            found |= {f"{name}.{part}": value for part, value in zip(_DEPLOYED, deployed, strict=True)}
        return found


def start_network(model: nn.Module, initializer: Initializer, bits: PolicyBits) -> TrainableNetwork:
    """The network with a policy, its quantizers at the least squared error."""
    owner = owners(initializer.trace)
    weights = {owner[layer]: initializer.weight(owner[layer], w) for layer, w in enumerate(bits[0]) if w is not None}
    inputs = {layer: initializer.input(layer, a) for layer, a in enumerate(bits[1]) if a is not None}
    known = {layer: quantizer for layer, quantizer in inputs.items() if quantizer is not None}
    return TrainableNetwork(model, initializer.trace, weights=weights, inputs=known)


@dataclass(frozen=True, slots=True, eq=False)
class Saved:
    """What is kept of a network that was fine-tuned."""

    network: Mapping[str, Any]
    """Its state dict: weights, buffers and extra state."""
    quantizers: Mapping[str, Tensor]
    """What `TrainableNetwork.quantizer_tensors` gave."""
    shift: LearnedShift


def load_network(model: nn.Module, trace: Trace, bits: PolicyBits, saved: Saved) -> TrainableNetwork:
    """A network that was fine-tuned, in eval mode, on the device of `model`. Raises UserError for misfits."""
    try:
        network = _empty_network(model, trace, bits, saved)
        # A network may keep more than tensors in its state_dict, and need not take it back.
        misfits = network.model.load_state_dict(dict(saved.network), strict=False)
        wrong = [
            *misfits.missing_keys,
            *(name for name in misfits.unexpected_keys if isinstance(saved.network[name], Tensor)),
        ]
        if wrong:
            raise KeyError(wrong[0])
        for name, quantizer in network.quantizers():
            parts = {part: saved.quantizers[f"{name}.{part}"] for part in quantizer.state_dict()}
            quantizer.load_state_dict(parts)
    except Exception as error:  # a user's set_extra_state may raise anything
        raise UserError(f"the files of the fine-tuned network do not fit it: {one_line(error)}") from error
    device = next(model.parameters()).device
    return network.to(device).eval()


def _empty_network(model: nn.Module, trace: Trace, bits: PolicyBits, saved: Saved) -> TrainableNetwork:
    owner, names = owners(trace), [layer.name for layer in trace.layers]
    weights, inputs = {}, {}
    for layer, (w_bits, a_bits) in enumerate(zip(*bits, strict=True)):
        first = owner[layer]
        if w_bits is not None and first not in weights:
            weights[first] = weight_quantizer(trace.layers[first], w_bits)
            _start(weights[first], saved.quantizers, f"{names[first]}.weight")
        if a_bits is not None and f"{names[layer]}.input.scale" in saved.quantizers:
            signed = bool(saved.quantizers[f"{names[layer]}.input.range"][0] < 0)
            inputs[layer] = input_quantizer(a_bits, signed=signed, shift=saved.shift)
            _start(inputs[layer], saved.quantizers, f"{names[layer]}.input")
    return TrainableNetwork(model, trace, weights=weights, inputs=inputs)


def _start(quantizer: AdaptiveQuantizer, tensors: Mapping[str, Tensor], name: str) -> None:
    """Give a quantizer parameters of the saved shapes."""
    scale, bounds = tensors[f"{name}.start_scale"], tensors[f"{name}.range"]
    quantizer.start_at(scale, tensors[f"{name}.start_zero_point"], signed=bool(bounds[0] < 0))

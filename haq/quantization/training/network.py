"""Trainable network: a copy of a network with a learnable quantizer for the weights and the input of every layer."""

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
from haq.network.tracing.weighted_calls import Call, WeightSlice
from haq.policy import PolicyBits
from haq.quantization.adaptive import AdaptiveQuantizer
from haq.quantization.operands import Operand
from haq.quantization.stored_tensors import misfit_text, require_shapes
from haq.quantization.training.initialization import (
    Initializer,
    LearnedShift,
    input_quantizer,
    owners,
    shift_of,
    weight_quantizer,
)
from haq.quantization.training.offsets import run_quantized
from haq.quantization.weight_scales import ScaleRule

_DEPLOYED = ("scale", "zero_point", "range")
"""Tensors of a quantizer that inference needs; they follow from the learned ones."""


class TrainableNetwork(nn.Module):
    """Copy of a network in which the weights and inputs of all traced layers pass through adaptive quantizers.

    The weights are parameters of the copy and keep their names. Layers that share weights share their quantizer. Layers
    without a quantizer stay in float.

    Args:
        model: Float network; it is not changed.
        trace: Its trace.
        weights: Calibrated quantizers of weights, by position of the first layer that uses them.
        inputs: Calibrated quantizers of inputs, by position of the layer.
        second_inputs: Calibrated quantizers of the second operands of products of two activations, likewise.

    Attributes:
        model: Copy of the network, channels-last in memory.
        trace: Trace of the network.
        owners: For each layer, position of the first layer that uses the same weights.
        weights: Quantizers of weights.
        inputs: Quantizers of inputs.
        second_inputs: Quantizers of the second operands of products of two activations.
    """

    def __init__(
        self,
        model: nn.Module,
        trace: Trace,
        *,
        weights: Mapping[int, AdaptiveQuantizer],
        inputs: Mapping[int, AdaptiveQuantizer],
        second_inputs: Mapping[int, AdaptiveQuantizer],
    ) -> None:
        super().__init__()
        # Channels-last, as images come: convolutions on a CPU are faster so.
        self.model = deepcopy(model).to(memory_format=torch.channels_last).requires_grad_()
        self.trace = trace
        self.owners = owners(trace)
        self.weights = nn.ModuleDict({str(layer): quantizer for layer, quantizer in weights.items()})
        self.inputs = nn.ModuleDict({str(layer): quantizer for layer, quantizer in inputs.items()})
        self.second_inputs = nn.ModuleDict({str(layer): quantizer for layer, quantizer in second_inputs.items()})

    def forward(self, *inputs: Any, **named: Any) -> Structure:
        """Run the network with quantized layers.

        Args:
            inputs: Positional arguments of the network.
            named: Keyword arguments of the network.

        Returns:
            Outputs of the network.
        """
        quantized: dict[str, Tensor] = {}

        def answer(layer: int, call: Call) -> Tensor:
            weights, inputs = str(self.owners[layer]), str(layer)
            factors, position = (self.weights, weights) if call.has_weights else (self.second_inputs, inputs)
            if position in factors and not (call.continues and position in quantized):  # once for all steps
                quantized[position] = factors[position](call.factor)
            factor = quantized.get(position, call.factor)
            if inputs not in self.inputs:
                return call.run(call.input, factor)
            quantizer = self.inputs[inputs]
            assert isinstance(quantizer, AdaptiveQuantizer)
            return run_quantized(call, quantizer, factor)

        # Built anew for every pass: a copy of this network, or a move to a device, has other tensors.
        calls = LayerCalls(LayerIndex(self.model, self.trace.sites), answer)
        return call_network(self.model, inputs, named, calls)

    def quantizers(self) -> Iterator[tuple[str, AdaptiveQuantizer]]:
        """Iterate over all quantizers, each with its name `LAYER.weight`, `LAYER.input` or `LAYER.second_input`."""
        groups = (("weight", self.weights), ("input", self.inputs), ("second_input", self.second_inputs))
        for kind, group in groups:
            for layer, quantizer in group.items():
                assert isinstance(quantizer, AdaptiveQuantizer)
                yield f"{self.trace.layers[int(layer)].name}.{kind}", quantizer

    def quantized_weights(self) -> Iterator[tuple[nn.Parameter, AdaptiveQuantizer]]:
        """Iterate over the parameters that are quantized whole, each with its quantizer.

        A layer may also use a part of a parameter, or its transpose; such parameters are left out.

        Returns:
            Iterator over (parameter, quantizer).
        """
        for layer, quantizer in self.weights.items():
            site = self.trace.sites[int(layer)].weights
            assert isinstance(site, WeightSlice)
            assert isinstance(quantizer, AdaptiveQuantizer)
            parameter = self.model.get_parameter(site.parameter)
            if tuple(parameter.shape) == site.shape and not site.is_transposed:
                yield parameter, quantizer

    def quantizer_tensors(self) -> dict[str, Tensor]:
        """Return the state of all quantizers by name.

        Returns:
            For each quantizer, by the names of `quantizers`: the tensors of its state dict, and `scale`, `zero_point`
            and `range` (q_min, q_max), which follow from them.
        """
        found: dict[str, Tensor] = {}
        for name, quantizer in self.quantizers():
            state = quantizer.state_dict()
            deployed = (quantizer.scale.detach(), quantizer.zero_point, quantizer.code_range)
            found |= {f"{name}.{part}": value for part, value in state.items()}
            found |= {f"{name}.{part}": value for part, value in zip(_DEPLOYED, deployed, strict=True)}
            if quantizer.offset is not None:
                found[f"{name}.offset"] = quantizer.offset.detach()
        return found


def start_network(model: nn.Module, initializer: Initializer, bits: PolicyBits) -> TrainableNetwork:
    """Create a trainable network whose quantizers are at the least squared error.

    Args:
        model: Float network; it is not changed.
        initializer: Initial quantizers of this network.
        bits: (w_bits, a_bits) of every layer; None leaves weights or input in float.

    Returns:
        The trainable network.
    """
    owner = owners(initializer.trace)
    factors = {layer: w for layer, w in enumerate(bits[0]) if w is not None}
    products = {layer: w for layer, w in factors.items() if not initializer.trace.layers[layer].has_weights}
    weights = {
        owner[layer]: initializer.weight(owner[layer], w) for layer, w in factors.items() if layer not in products
    }
    inputs = {layer: initializer.input(layer, a) for layer, a in enumerate(bits[1]) if a is not None}
    second_inputs = {layer: initializer.input(layer, w, operand="second_input") for layer, w in products.items()}
    return TrainableNetwork(
        model, initializer.trace, weights=weights, inputs=_found(inputs), second_inputs=_found(second_inputs)
    )


def _found(quantizers: Mapping[int, AdaptiveQuantizer | None]) -> dict[int, AdaptiveQuantizer]:
    return {layer: quantizer for layer, quantizer in quantizers.items() if quantizer is not None}


@dataclass(frozen=True, slots=True, eq=False)
class Saved:
    """Stored state of a fine-tuned network.

    Attributes:
        network: State dict of the network: parameters, buffers and extra state.
        quantizers: Result of `TrainableNetwork.quantizer_tensors`.
        shift: Zero points of skewed inputs that it was trained with.
    """

    network: Mapping[str, Any]
    quantizers: Mapping[str, Tensor]
    shift: LearnedShift


def load_network(model: nn.Module, trace: Trace, bits: PolicyBits, saved: Saved) -> TrainableNetwork:
    """Restore a fine-tuned network.

    Args:
        model: Float network; it is not changed.
        trace: Its trace.
        bits: (w_bits, a_bits) of every layer that it was trained with.
        saved: Stored state.

    Returns:
        The network, in evaluation mode and on the device of `model`.

    Raises:
        UserError: The stored state does not fit the network or the bits.
    """
    try:
        require_shapes(saved.quantizers)
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
    except (KeyError, ValueError) as error:
        raise UserError(f"the files of the fine-tuned network do not fit it: {misfit_text(error)}") from error
    except Exception as error:  # a user's set_extra_state may raise anything
        raise UserError(f"the files of the fine-tuned network do not fit it: {one_line(error)}") from error
    device = next(model.parameters()).device
    return network.to(device).eval()


def _empty_network(model: nn.Module, trace: Trace, bits: PolicyBits, saved: Saved) -> TrainableNetwork:
    owner, names = owners(trace), [layer.name for layer in trace.layers]
    weights, inputs, second_inputs = {}, {}, {}

    def activation(layer: int, operand: Operand, width: int) -> AdaptiveQuantizer:
        name = f"{names[layer]}.{operand}"
        signed = bool(saved.quantizers[f"{name}.range"][0] < 0)
        quantizer = input_quantizer(width, signed=signed, shift=shift_of(trace.layers[layer], saved.shift))
        _start(quantizer, saved.quantizers, name)
        return quantizer

    for layer, (w_bits, a_bits) in enumerate(zip(*bits, strict=True)):
        first = owner[layer]
        if w_bits is not None and not trace.layers[layer].has_weights:
            second_inputs[layer] = activation(layer, "second_input", w_bits)
        elif w_bits is not None and first not in weights:
            name = f"{names[first]}.weight"
            # Powers of two are stored: they need no rule.
            rule = ScaleRule(per_tensor=not saved.quantizers[f"{name}.start_scale"].ndim)
            weights[first] = weight_quantizer(trace.layers[first], w_bits, rule=rule)
            _start(weights[first], saved.quantizers, name)
        if a_bits is not None and f"{names[layer]}.input.scale" in saved.quantizers:
            inputs[layer] = activation(layer, "input", a_bits)
    return TrainableNetwork(model, trace, weights=weights, inputs=inputs, second_inputs=second_inputs)


def _start(quantizer: AdaptiveQuantizer, tensors: Mapping[str, Tensor], name: str) -> None:
    """Create the parameters of a quantizer in the saved shapes."""
    scale, bounds = tensors[f"{name}.start_scale"], tensors[f"{name}.range"]
    quantizer.start_at(scale, tensors[f"{name}.start_zero_point"], signed=bool(bounds[0] < 0))

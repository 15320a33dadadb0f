"""Network with trainable quantizers and fixed weights: codes, scales and biases of all layers are parameters."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn

from haq.execution.networks import run_network
from haq.execution.structures import Structure, device_of
from haq.network.layer_calls import LayerCalls, LayerIndex, NormCall, weight_of
from haq.network.layers import Trace
from haq.network.tracing.weighted_calls import Call
from haq.policy import PolicyBits
from haq.quantization.adaptive_gradients import LearnedGrid, learned_fake_quantize
from haq.quantization.corrections import Corrections
from haq.quantization.linear import QuantizedWeight, QuantizerParameters
from haq.quantization.moments import Moments
from haq.quantization.quantizers import Quantizers
from haq.quantization.range import round_half_even, weight_range
from haq.quantization.training.initialization import owners
from haq.quantization.weight_scales import ANY_SCALES, stored_scale

FURTHEST = 0.3
"""Largest distance, in steps of the grid, from a weight's start to its code. Codes that compensate each other's errors,
as those of GPTQ do, would otherwise all be undone by the first step of learning."""

Tap = Callable[[int, Tensor], None]
"""Function that receives the number and the output of every layer."""


class LearnedWeight(nn.Module):
    """Weights as codes times scales, which are trained independently, unlike in LSQ.

    Args:
        weight: Float weights.
        start: Their codes and scales at the start.

    Attributes:
        steps: Values that are rounded to codes, in the shape of the weights; gradients pass straight through.
        log_gain: Logarithm [channels] of the scale over its start.
    """

    def __init__(self, weight: Tensor, start: QuantizedWeight) -> None:
        super().__init__()
        self._grid = weight_range(start.bits)
        self._along = [-1 if dim == start.channel_axis else 1 for dim in range(weight.ndim)]
        codes, wanted = start.codes.float(), weight.float() / start.scale.reshape(self._along)
        near = torch.clamp(wanted, codes - FURTHEST, codes + FURTHEST)
        self.steps = nn.Parameter(self._clamped(near))
        self.log_gain = nn.Parameter(torch.zeros_like(start.scale))
        self.register_buffer("_start", start.scale)

    @property
    def scale(self) -> Tensor:
        """Scale of every channel [channels]."""
        return cast(Tensor, self._start) * self.log_gain.exp()

    @property
    def codes(self) -> Tensor:
        """Codes, int8, in the shape of the weights."""
        return self._clamped(self.steps.detach()).round().to(torch.int8)

    def forward(self) -> Tensor:
        """Return the quantized weights."""
        return round_half_even(self._clamped(self.steps)) * self.scale.reshape(self._along)

    def _clamped(self, steps: Tensor) -> Tensor:
        return steps.clamp(self._grid.q_min, self._grid.q_max)


class LearnedInput(nn.Module):
    """Fake quantization of an input with a trainable scale and a fixed zero point.

    Args:
        start: Quantizer at the start.
        device: Device of the network.

    Attributes:
        log_gain: Logarithm [] of the scale over its start.
    """

    def __init__(self, start: QuantizerParameters, device: torch.device) -> None:
        super().__init__()
        low, high = start.q_min - start.zero_point, start.q_max - start.zero_point
        self._grid = LearnedGrid(low=low, high=high, factor=1.0)
        self.log_gain = nn.Parameter(torch.zeros((), device=device))
        self.register_buffer("_start", torch.tensor(start.scale, dtype=torch.float32, device=device))

    @property
    def scale(self) -> Tensor:
        """Scale []."""
        return cast(Tensor, self._start) * self.log_gain.exp()

    def forward(self, x: Tensor) -> Tensor:
        """Quantize and dequantize an input.

        Args:
            x: Input of any shape.

        Returns:
            The quantized input.
        """
        return learned_fake_quantize(x, self.scale, None, self._grid)


class LearnedBias(nn.Module):
    """Trainable bias of a layer's output.

    Args:
        spread: Standard deviation [c_out] of the outputs in float.

    Attributes:
        moved: The bias [c_out], in units of `spread`; 0 at the start.
    """

    def __init__(self, spread: Tensor) -> None:
        super().__init__()
        self.moved = nn.Parameter(torch.zeros_like(spread))
        self.register_buffer("_spread", spread)

    def forward(self) -> Tensor:
        """Return the bias [c_out]."""
        return cast(Tensor, self._spread) * self.moved


class LearnedNetwork(nn.Module):
    """Copy of a network with trainable quantizers and biases of a policy; its weights are fixed.

    Scales that a deployment target restricts stay as they start. Biases start at zero, and outputs are not scaled: a
    start from biases and scales that restore means and variances ends worse (results/reconstruction.md).

    Args:
        model: Float network.
        trace: Its layers.
        quantizers: Quantizers at the start.
        bits: Policy.
        statistics: Mean and variance by batch norm call, [channels] each, which stay as they are.
        spreads: Standard deviations [c_out] of the outputs in float, by layer: the units of biases. Layers without one,
            such as the steps of a recurrent layer, and products of two activations have no trainable bias.
    """

    def __init__(
        self,
        model: nn.Module,
        trace: Trace,
        quantizers: Quantizers,
        *,
        bits: PolicyBits,
        statistics: Mapping[NormCall, Moments],
        spreads: Mapping[int, Tensor],
    ) -> None:
        super().__init__()
        self._model = deepcopy(model).to(memory_format=torch.channels_last).requires_grad_(requires_grad=False)
        self._index, self._owners = LayerIndex(self._model, trace.sites), owners(trace)
        self._names = tuple(layer.name for layer in trace.layers)
        self._statistics = statistics
        device = device_of(tuple(model.parameters()))
        factors = {layer: w for layer, w in enumerate(bits[0]) if w is not None}
        weights = {
            self._owners[layer]: LearnedWeight(weight_of(model, trace.sites[layer]), quantizers.codes(layer, w))
            for layer, w in factors.items()
            if quantizers.has_weights(layer)
        }
        inputs = {layer: quantizers.activation(layer, a) for layer, a in enumerate(bits[1]) if a is not None}
        seconds = {
            layer: quantizers.second_activation(layer, w)
            for layer, w in factors.items()
            if not quantizers.has_weights(layer)
        }
        self.weights = _by_layer(weights)
        self.inputs = _by_layer({layer: LearnedInput(each, device) for layer, each in inputs.items() if each})
        self.second_inputs = _by_layer({layer: LearnedInput(each, device) for layer, each in seconds.items()})
        self._scales = quantizers.options.weight_scales
        if self._scales != ANY_SCALES:
            _fix_scales(self.weights)
        if quantizers.options.power_of_two_inputs:
            _fix_scales(self.inputs)
            _fix_scales(self.second_inputs)
        self.biases = _by_layer(
            {layer: LearnedBias(spread) for layer, spread in spreads.items() if quantizers.has_weights(layer)}
        )

    def forward(self, x: Structure, tap: Tap) -> None:
        """Run all layers, quantized and corrected.

        Args:
            x: Inputs of the network.
            tap: Called with the output of every layer.
        """
        corrections = self.corrections()
        quantized = {owner: weight() for owner, weight in self.weights.items()}  # one product may take many steps

        @torch.inference_mode(mode=False)
        @torch.enable_grad()  # a layer learns from its own output where the network itself runs without gradients
        def answer(layer: int, call: Call) -> Tensor:
            output = corrections.correct(layer, call, self._quantized(layer, call, quantized))
            tap(layer, output)
            return output

        run_network(self._model, x, LayerCalls(self._index, answer, corrections.normalize))

    @torch.no_grad()
    def float_outputs(self, x: Structure, tap: Tap) -> None:
        """Run the float network.

        Args:
            x: Inputs of the network.
            tap: Called with the output of every layer.
        """

        def answer(layer: int, call: Call) -> Tensor:
            output = call.run(call.input, call.factor)
            tap(layer, output)
            return output

        run_network(self._model, x, LayerCalls(self._index, answer))

    def corrections(self) -> Corrections:
        """Return the current biases and the batch norm statistics."""
        return Corrections(self._statistics, {int(layer): bias() for layer, bias in self.biases.items()})

    @torch.no_grad()
    def quantizer_tensors(self) -> dict[str, Tensor]:
        """Return the trained scales and codes, with the names of `Quantizers.tensors`."""
        found: dict[str, Tensor] = {}
        for layer, (name, owner) in enumerate(zip(self._names, self._owners, strict=True)):
            weights, inputs = str(owner), str(layer)
            if weights in self.weights:
                weight = cast(LearnedWeight, self.weights[weights])
                scale = stored_scale(weight.scale, self._scales)
                found |= {f"{name}.weight.scale": scale, f"{name}.weight.codes": weight.codes}
            if inputs in self.inputs:
                found[f"{name}.input.scale"] = cast(LearnedInput, self.inputs[inputs]).scale
            if inputs in self.second_inputs:
                found[f"{name}.second_input.scale"] = cast(LearnedInput, self.second_inputs[inputs]).scale
        return found

    def _quantized(self, layer: int, call: Call, weights: Mapping[str, Tensor]) -> Tensor:
        owner, inputs = str(self._owners[layer]), str(layer)
        factor = weights.get(owner, call.factor) if call.has_weights else call.factor
        if not call.has_weights and inputs in self.second_inputs:
            factor = self.second_inputs[inputs](call.factor)
        return call.run(self.inputs[inputs](call.input) if inputs in self.inputs else call.input, factor)


def _fix_scales(quantizers: nn.ModuleDict) -> None:
    """Exclude the scales of quantizers from training."""
    for quantizer in quantizers.values():
        assert isinstance(quantizer, LearnedWeight | LearnedInput)
        quantizer.log_gain.requires_grad = False


def _by_layer(modules: Mapping[int, nn.Module]) -> nn.ModuleDict:
    return nn.ModuleDict({str(layer): module for layer, module in modules.items()})

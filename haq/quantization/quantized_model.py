"""Apply a policy to an unchanged network: quantizers made once per layer and width, put in place while it runs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from haq.config import QuantizerName, Rounding, ZeroPoints
from haq.errors import UserError
from haq.execution.networks import call_network, run_network
from haq.execution.structures import Structure
from haq.network.layer_calls import CallCount, LayerCalls, LayerIndex, untraced_text, weight_of
from haq.network.layers import Trace
from haq.network.tracing.weighted_calls import Call, WeightSlice
from haq.quantization.calibration import MethodChoice
from haq.quantization.corrections import Corrections
from haq.quantization.histogram import Histogram, HistogramBuilder
from haq.quantization.input_hessians import has_hessian, input_hessians
from haq.quantization.layer_weights import LayerWeights, StoredWeight, make_layer_weights
from haq.quantization.linear import QuantizedWeight, QuantizerParameters, activation_quantizer
from haq.quantization.range import fake_quantize
from haq.quantization.rounding import ROUNDINGS, WeightRounding
from hardware_sim.cost import Bits

_PARTS = ("scale", "zero_point", "range")
"""What is stored of a quantizer; `range` is (q_min, q_max)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizerOptions:
    """How quantizers are made: what is measured on the calibration inputs, and what is done about it."""

    method: MethodChoice = "mse"
    """Chooses the clips, see `haq.quantization.calibration`."""
    weights: QuantizerName = "linear"
    zero_points: ZeroPoints = "auto"
    """Those of activations."""
    rounding: Rounding = "nearest"
    """Of linear weights; those that are embedded, turned or used more than once go to the nearest in any case."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What one float pass over the calibration inputs showed."""

    histograms: Sequence[Histogram | None]
    """The distribution of every layer's input; None for one that is not a float tensor."""
    warning: str | None
    """Which calls of layers the trace lacks, if any."""


class Quantizers:
    """Every quantizer of a network; each is computed when it is first asked for and kept.

    `batches` gives the calibration inputs; they are run, in float, when the first activation quantizer is asked for.
    Weights are symmetric per output channel where their quantizer is linear; activations are per tensor, unsigned where
    calibration saw no negative value.
    """

    def __init__(
        self,
        model: nn.Module,
        trace: Trace,
        batches: Callable[[], Iterable[Structure]],
        options: QuantizerOptions | None = None,
    ) -> None:
        self._model, self._trace = model, trace
        self._batches, self._options = batches, options or QuantizerOptions()
        self._layers: dict[int, LayerWeights] = {}
        self._weights: dict[tuple[int, int], StoredWeight] = {}
        self._activations: dict[tuple[int, int], tuple[QuantizerParameters, Tensor]] = {}

    @property
    def in_integers(self) -> bool:
        """Whether weights are integers with scales."""
        return self._options.weights == "linear"

    @property
    def passes(self) -> int:
        """How often the calibration inputs are run at most: for activations, and for the Hessians of GPTQ."""
        return 2 if ROUNDINGS[self._options.rounding].needs_hessian else 1

    def calibrate(self) -> None:
        """Run the calibration inputs now, not when the first activation quantizer is asked for."""
        _ = self._calibration

    def quantize_weight(self, layer: int, widths: Iterable[int]) -> None:
        """Quantize a layer's weights to several widths now, not when each is asked for."""
        for bits in widths:
            self._quantized(layer, int(bits))

    @property
    def warning(self) -> str | None:
        """What calibration found wrong, in one line, if anything; calibrates where that was not done yet."""
        return self._calibration.warning

    def codes(self, layer: int, bits: int) -> QuantizedWeight:
        """Integer codes and scales of a layer's weights. Raises ValueError where the quantizer is not linear."""
        codes = self._quantized(layer, bits).codes
        if codes is None:
            raise ValueError(f"weights quantized by {self._options.weights} are no integers with scales")
        return codes

    def weight(self, layer: int, bits: int) -> Tensor:
        """A layer's weights after quantization, as floats in the shape that the network uses."""
        return self._quantized(layer, bits).values

    def activation(self, layer: int, bits: int) -> QuantizerParameters | None:
        """The quantizer of a layer's input; None where the input is not a float tensor, as an embedding's."""
        found = self._activation(layer, bits)
        return found[0] if found else None

    def input(self, x: Tensor, layer: int, bits: int) -> Tensor:
        """A layer's input after quantization; indices, as an embedding's, stay what they are."""
        found = self._activation(layer, bits) if x.is_floating_point() else None
        if found is None:
            return x
        quantizer, scale = found
        return fake_quantize(x, scale, quantizer.zero_point, quantizer.q_min, quantizer.q_max)

    def tensors(self, w_bits: Sequence[Bits], a_bits: Sequence[Bits]) -> dict[str, Tensor]:
        """The parameters of every quantizer of a policy, by `LAYER.weight.scale`, `LAYER.input.zero_point` and so on.

        Layers in float have none.
        """
        found: dict[str, Tensor] = {}
        for layer, (w, a) in enumerate(zip(w_bits, a_bits, strict=True)):
            name = self._trace.layers[layer].name
            if w is not None:
                found |= {f"{name}.weight.{part}": value for part, value in self._quantized(layer, w).parts.items()}
            activation = None if a is None else self._activation(layer, a)
            if activation is not None:
                quantizer, scale = activation
                found |= {f"{name}.input.{part}": value for part, value in _parts(quantizer, scale).items()}
        return found

    @cached_property
    def _calibration(self) -> Calibration:
        return calibrate(self._model, self._trace, self._batches())

    @cached_property
    def _hessians(self) -> dict[int, Tensor]:
        return input_hessians(self._model, self._trace, self._batches())

    def _activation(self, layer: int, bits: int) -> tuple[QuantizerParameters, Tensor] | None:
        if (layer, bits) not in self._activations:
            histogram = self._calibration.histograms[layer]
            if histogram is None:
                return None
            method, zero_points = self._options.method, self._options.zero_points
            quantizer = activation_quantizer(histogram, bits, method=method, zero_points=zero_points)
            device = weight_of(self._model, self._trace.sites[layer]).device
            scale = torch.tensor(quantizer.scale, dtype=torch.float32, device=device)
            self._activations[layer, bits] = (quantizer, scale)
        return self._activations[layer, bits]

    def load(self, tensors: Mapping[str, Tensor], w_bits: Sequence[Bits], a_bits: Sequence[Bits]) -> None:
        """Take over what `tensors` gave for a policy, so that nothing is calibrated for it again.

        Raises KeyError for a quantizer that is not there, and ValueError for one of other bits or another shape.
        """
        for layer, (w, a) in enumerate(zip(w_bits, a_bits, strict=True)):
            name = self._trace.layers[layer].name
            if w is not None and self._owner(layer) == layer:
                prefix = f"{name}.weight."
                parts = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
                if not parts:
                    raise KeyError(f"{name}.weight")
                self._weights[layer, w] = self._layer(layer).restore(w, parts)
            if a is not None and f"{name}.input.scale" in tensors:
                self._load_input(layer, a, {key: tensors[f"{name}.input.{key}"] for key in _PARTS})

    def _load_input(self, layer: int, bits: int, parts: Mapping[str, Tensor]) -> None:
        q_min, q_max = parts["range"].tolist()
        if q_max - q_min >= 2**bits:
            raise ValueError(f"input codes of {self._trace.layers[layer].name} exceed {bits} bits: {q_min}..{q_max}")
        scale, zero_point = parts["scale"], int(parts["zero_point"])
        quantizer = QuantizerParameters(
            bits=bits, signed=q_min < 0, scale=scale.item(), zero_point=zero_point, q_min=q_min, q_max=q_max
        )
        self._activations[layer, bits] = (quantizer, scale)

    def _quantized(self, layer: int, bits: int) -> StoredWeight:
        owner = self._owner(layer)
        if (owner, bits) not in self._weights:
            self._weights[owner, bits] = self._layer(owner).quantize(bits)
        return self._weights[owner, bits]

    def _layer(self, owner: int) -> LayerWeights:
        if owner not in self._layers:
            weight = weight_of(self._model, self._trace.sites[owner])
            axis = 1 if self._trace.layers[owner].kind == "conv_transpose" else 0
            self._layers[owner] = make_layer_weights(
                self._options.weights,
                weight,
                channel_axis=axis,
                method=self._options.method,
                rounding=self._rounding(owner),
            )
        return self._layers[owner]

    def _rounding(self, layer: int) -> WeightRounding:
        """Return the rounding of a layer's weights."""
        method = ROUNDINGS[self._options.rounding]
        if method.needs_hessian and not has_hessian(self._trace, layer):
            method = ROUNDINGS["nearest"]
        return method.make(lambda: self._hessians.pop(layer))

    def _owner(self, layer: int) -> int:
        """The first layer that uses the same weights."""
        weights = self._trace.sites[layer].weights
        return next(first for first, site in enumerate(self._trace.sites) if site.weights == weights)


class QuantizedModel(nn.Module):
    """A network with a policy on it. The network itself is not changed: taking the policy off is dropping this.

    `set_bits` is cheap: nothing is calibrated, and no weight is quantized twice to the same width.
    """

    def __init__(self, model: nn.Module, trace: Trace, quantizers: Quantizers) -> None:
        super().__init__()
        self.model = model
        self.index = LayerIndex(model, trace.sites)
        self._trace, self.quantizers = trace, quantizers
        self._corrections = Corrections()
        self._bits: list[tuple[Bits, Bits]] = [(None, None)] * len(trace.layers)

    def set_bits(self, w_bits: Sequence[Bits], a_bits: Sequence[Bits]) -> None:
        """Give every layer its bits; None leaves weights or activations in float."""
        if not len(w_bits) == len(a_bits) == len(self._trace.layers):
            raise ValueError(f"{len(self._trace.layers)} layers need as many bits, got {len(w_bits)} and {len(a_bits)}")
        self._bits = list(zip(w_bits, a_bits, strict=True))

    def forward(self, *inputs: Structure, **named: Structure) -> Structure:
        """Call the network with every traced layer quantized, with the same arguments."""
        calls = LayerCalls(self.index, self._answer, self._corrections.normalize)
        return call_network(self.model, inputs, named, calls)

    def set_corrections(self, corrections: Corrections) -> None:
        """Correct outputs and batch norms from now on, whatever the bits."""
        self._corrections = corrections

    def _answer(self, layer: int, call: Call) -> Tensor:
        return self._corrections.shift(layer, call, self.quantized(layer, call))

    def quantized(self, layer: int, call: Call) -> Tensor:
        """What a layer answers with its weights and its input quantized, uncorrected."""
        w_bits, a_bits = self._bits[layer]
        weight = call.weight if w_bits is None else self.quantizers.weight(layer, w_bits)
        return call.run(call.input if a_bits is None else self.quantizers.input(call.input, layer, a_bits), weight)


def calibrate(model: nn.Module, trace: Trace, batches: Iterable[Structure]) -> Calibration:
    """Run the calibration batches in float and observe the inputs of all layers.

    Raises UserError, naming the layer, for NaN or infinite activations.
    """
    builders: dict[int, HistogramBuilder] = {}
    counts: dict[WeightSlice, CallCount] = {}

    def watch(layer: int, call: Call) -> Tensor:
        if call.input.is_floating_point():
            try:
                builders.setdefault(layer, HistogramBuilder()).update(call.input)
            except ValueError as error:
                raise UserError(f"input of layer {trace.layers[layer].name!r}: {error}") from error
        return call.run(call.input, call.weight)

    index = LayerIndex(model, trace.sites)
    with torch.no_grad():
        for batch in batches:
            run_network(model, batch, LayerCalls(index, watch, counts=counts))
    histograms = [builders[layer].build() if layer in builders else None for layer in range(len(trace.layers))]
    return Calibration(histograms, untraced_text(model, counts))


def _parts(quantizer: QuantizerParameters, scale: Tensor) -> dict[str, Tensor]:
    integers = (quantizer.zero_point, (quantizer.q_min, quantizer.q_max))
    values = (scale, *(torch.tensor(each, dtype=torch.int32) for each in integers))
    return dict(zip(_PARTS, values, strict=True))

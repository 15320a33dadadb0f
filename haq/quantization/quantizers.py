"""Quantizers of all layers of a network, made once per layer and bit width."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from torch import Tensor, nn

from haq.config import QuantizerName, Rounding, ZeroPoints
from haq.execution.structures import Structure
from haq.network.layer_calls import weight_of
from haq.network.layers import Trace
from haq.network.tracing.weighted_calls import Call
from haq.quantization.activations import ActivationQuantizers, OperandKey
from haq.quantization.calibration import MethodChoice
from haq.quantization.input_hessians import has_hessian, input_hessians
from haq.quantization.layer_weights import LayerWeights, StoredWeight, make_layer_weights
from haq.quantization.linear import QuantizedWeight, QuantizerParameters, activation_quantizer
from haq.quantization.rounding import ROUNDINGS, WeightRounding
from haq.quantization.weight_scales import ANY_SCALES, ScaleRule
from hardware_sim.cost import Bits


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizerOptions:
    """Settings of the quantizers of a network.

    Attributes:
        method: Calibration method of the clips, see `haq.quantization.calibration`; or one for each bit width.
        weights: Quantizer of weights.
        zero_points: Zero points of activations.
        rounding: Rounding of linear weights. Layers without a Hessian (`input_hessians.has_hessian`), such as
            embeddings, transposed convolutions and layers with shared weights, are rounded to nearest in any case.
        weight_scales: Rule for the scales of weights.
        power_of_two_inputs: Whether scales of activations are powers of two.
    """

    method: MethodChoice = "mse"
    weights: QuantizerName = "linear"
    zero_points: ZeroPoints = "auto"
    rounding: Rounding = "nearest"
    weight_scales: ScaleRule = ANY_SCALES
    power_of_two_inputs: bool = False

    @property
    def rules(self) -> tuple[ZeroPoints, ScaleRule, bool]:
        """Options that a deployment target restricts."""
        return self.zero_points, self.weight_scales, self.power_of_two_inputs


class Quantizers:
    """Quantizers of a network, each computed on first use and kept.

    Linear weights have a scale for each output channel and zero point 0. Activations are per tensor, and unsigned if
    calibration saw no negative value. Layers are identified by their position in the trace; layers with the same
    weights share their quantizer. A layer that multiplies two activations has a quantizer for each; bits of weights are
    those of the second.

    Args:
        model: Float network.
        trace: Its trace.
        batches: Function that returns the batches of calibration inputs, on the device of the network. It is called,
            and the batches are run in float, when an activation quantizer is first needed, and once more when a Hessian
            is.
        options: Settings; the defaults of `QuantizerOptions` if None.
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
        self._activations = ActivationQuantizers(
            model,
            trace,
            batches,
            partial(
                activation_quantizer,
                method=self._options.method,
                zero_points=self._options.zero_points,
                power_of_two=self._options.power_of_two_inputs,
            ),
        )

    def of_network(self, model: nn.Module) -> "Quantizers":
        """Return quantizers with the same settings and calibration inputs for other weights of the network.

        Args:
            model: The network with other weights.

        Returns:
            Quantizers, of which none is computed yet.
        """
        return Quantizers(model, self._trace, self._batches, self._options)

    @property
    def options(self) -> QuantizerOptions:
        """Settings of the quantizers."""
        return self._options

    @property
    def in_integers(self) -> bool:
        """Whether weights are integers with scales, not codebooks."""
        return self._options.weights == "linear"

    @property
    def passes(self) -> int:
        """Largest number of passes over the calibration inputs: for activations, and for the Hessians of GPTQ."""
        return 2 if ROUNDINGS[self._options.rounding].needs_hessian else 1

    def calibrate(self) -> None:
        """Run the calibration inputs now instead of when the first activation quantizer is needed.

        Raises:
            UserError: Activations are not finite; the message names the layer.
        """
        _ = self._activations.calibration

    def has_weights(self, layer: int) -> bool:
        """Return whether a layer multiplies with weights, not with a second activation.

        Args:
            layer: Position of the layer.

        Returns:
            True if it does.
        """
        return self._trace.layers[layer].has_weights

    def quantize_weight(self, layer: int, widths: Iterable[int]) -> None:
        """Quantize a layer's weights to several bit widths now instead of on first use.

        Layers without weights are left out.

        Args:
            layer: Position of the layer.
            widths: Bit widths, each 1 to 8.

        Raises:
            ValueError: The weights are empty or not finite.
        """
        for bits in widths if self.has_weights(layer) else ():
            self._quantized(layer, int(bits))

    @property
    def warning(self) -> str | None:
        """Warning about calls that the trace does not have, or None.

        The calibration inputs are run if they were not run yet, unless the warning is known.
        """
        return self._activations.warning

    def codes(self, layer: int, bits: int) -> QuantizedWeight:
        """Return the integer codes and scales of a layer's weights.

        Args:
            layer: Position of the layer.
            bits: Bit width, 1 to 8.

        Returns:
            The quantized weights.

        Raises:
            ValueError: The quantizer of weights is not linear.
        """
        codes = self._quantized(layer, bits).codes
        if codes is None:
            raise ValueError(f"weights quantized by {self._options.weights} are no integers with scales")
        return codes

    def weight(self, layer: int, bits: int) -> Tensor:
        """Return a layer's weights after quantization, as floats.

        Args:
            layer: Position of the layer.
            bits: Bit width, 1 to 8.

        Returns:
            The values, in the shape and dtype of the network's weights.
        """
        return self._quantized(layer, bits).values

    def activation(self, layer: int, bits: int) -> QuantizerParameters | None:
        """Return the quantizer of a layer's input.

        Args:
            layer: Position of the layer.
            bits: Bit width, 1 to 8.

        Returns:
            The quantizer; None if the input is not a float tensor, such as the indices of an embedding.

        Raises:
            UserError: Activations on the calibration inputs are not finite; the message names the layer.
        """
        return self._activations.quantizer((layer, "input"), bits)

    def second_activation(self, layer: int, bits: int) -> QuantizerParameters:
        """Return the quantizer of the second operand of a layer that multiplies two activations.

        Args:
            layer: Position of the layer.
            bits: Bit width, 1 to 8.

        Returns:
            The quantizer.

        Raises:
            UserError: Activations on the calibration inputs are not finite; the message names the layer.
        """
        found = self._activations.quantizer((layer, "second_input"), bits)
        assert found is not None, "layers that multiply two activations have float operands"
        return found

    def of_operand(self, operand: OperandKey, bits: tuple[Bits, Bits]) -> QuantizerParameters | None:
        """Return the quantizer of an activation.

        Args:
            operand: Layer and operand.
            bits: (w_bits, a_bits) of the layer.

        Returns:
            The quantizer; None for what is left in float, or is no float tensor.
        """
        width = bits[0 if operand[1] == "second_input" else 1]
        return None if width is None else self._activations.quantizer(operand, width)

    def input(self, x: Tensor, layer: int, bits: int) -> Tensor:
        """Fake-quantize the input of a layer.

        Args:
            x: Input of the layer, of any shape.
            layer: Position of the layer.
            bits: Bit width, 1 to 8.

        Returns:
            Values on the grid, in the shape of x; x itself if it is not a float tensor, such as the indices of an
            embedding.
        """
        return self._activations.quantize(x, (layer, "input"), bits)

    def factor(self, call: Call, layer: int, bits: int) -> Tensor:
        """Return what a layer multiplies its input with, quantized: its weights, or the second activation of a product.

        Args:
            call: Call of the layer.
            layer: Position of the layer.
            bits: Bit width, 1 to 8.

        Returns:
            Values on the grid, in the shape of the weights or of the activation.
        """
        if call.has_weights:
            return self.weight(layer, bits)
        return self._activations.quantize(call.factor, (layer, "second_input"), bits)

    def tensors(self, w_bits: Sequence[Bits], a_bits: Sequence[Bits]) -> dict[str, Tensor]:
        """Return the parameters of all quantizers of a policy by name.

        Args:
            w_bits: Bits of the weights of each layer; None for float.
            a_bits: Bits of the input of each layer; None for float.

        Returns:
            Tensors by `LAYER.weight.scale`, `LAYER.input.zero_point` and so on, `LAYER.second_input.scale` in place of
            weights for products of two activations; none for what is left in float.
        """
        found: dict[str, Tensor] = {}
        for layer, (w, a) in enumerate(zip(w_bits, a_bits, strict=True)):
            name = self._trace.layers[layer].name
            if w is not None and self.has_weights(layer):
                found |= {f"{name}.weight.{part}": value for part, value in self._quantized(layer, w).parts.items()}
            elif w is not None:
                found |= self._activations.tensors((layer, "second_input"), w)
            if a is not None:
                found |= self._activations.tensors((layer, "input"), a)
        return found

    def know_warning(self, warning: str | None) -> None:
        """Set the warning that the calibration inputs gave when the quantizers were computed that are loaded here.

        Args:
            warning: The warning, or None.
        """
        self._activations.know_warning(warning)

    @cached_property
    def _hessians(self) -> dict[int, Tensor]:
        return input_hessians(self._model, self._trace, self._batches())

    def load(self, tensors: Mapping[str, Tensor], w_bits: Sequence[Bits], a_bits: Sequence[Bits]) -> None:
        """Restore the quantizers of a policy, so that nothing is calibrated for it again.

        Args:
            tensors: Result of `tensors` for the same policy.
            w_bits: Bits of the weights of each layer; None for float.
            a_bits: Bits of the input of each layer; None for float.

        Raises:
            KeyError: The quantizer of a layer's weights, or of its second activation, is missing.
            ValueError: A quantizer has other bits or another shape.
        """
        for layer, (w, a) in enumerate(zip(w_bits, a_bits, strict=True)):
            name = self._trace.layers[layer].name
            if w is not None and not self.has_weights(layer):
                if f"{name}.second_input.scale" not in tensors:
                    raise KeyError(f"{name}.second_input")
                self._activations.load(tensors, (layer, "second_input"), w)
            elif w is not None and self._owner(layer) == layer:
                prefix = f"{name}.weight."
                parts = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
                if not parts:
                    raise KeyError(f"{name}.weight")
                self._weights[layer, w] = self._layer(layer).restore(w, parts)
            if a is not None:
                self._activations.load(tensors, (layer, "input"), a)

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
                scales=self._options.weight_scales,
            )
        return self._layers[owner]

    def _rounding(self, layer: int) -> WeightRounding:
        """Return the rounding of a layer's weights."""
        method = ROUNDINGS[self._options.rounding]
        if method.needs_hessian and not has_hessian(self._trace, layer):
            method = ROUNDINGS["nearest"]
        return method.make(lambda: self._hessians.pop(layer), self._options.weight_scales)

    def _owner(self, layer: int) -> int:
        """Return the first layer that uses the same weights."""
        weights = self._trace.sites[layer].weights
        return next(first for first, site in enumerate(self._trace.sites) if site.weights == weights)

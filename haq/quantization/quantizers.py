"""Quantizers of the weights and activations of all layers of a network, made once per layer and bit width."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial

from torch import Tensor, nn

from haq.execution.structures import Structure
from haq.network.layers import Trace
from haq.network.tracing.weighted_calls import Call
from haq.quantization.activations import ActivationQuantizers
from haq.quantization.calibration_pass import Calibration, calibrate
from haq.quantization.linear import QuantizedWeight, QuantizerParameters, activation_quantizer
from haq.quantization.operands import OperandKey
from haq.quantization.options import QuantizerOptions
from haq.quantization.rounding import ROUNDINGS
from haq.quantization.weight_scales import ANY_SCALES
from haq.quantization.weights import WeightQuantizers
from hardware_sim.cost import Bits
from hardware_sim.layer import LayerKind

SCALABLE_KINDS: tuple[LayerKind, ...] = ("conv", "depthwise", "conv_transpose", "linear")
"""Kinds of layers whose weights have a scale for every channel of the output."""


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
            and the batches are run in float, when a quantizer is first needed that depends on them.
        options: Settings; the defaults of `QuantizerOptions` if None.

    Attributes:
        activations: Quantizers of the activations.
    """

    def __init__(
        self,
        model: nn.Module,
        trace: Trace,
        batches: Callable[[], Iterable[Structure]],
        options: QuantizerOptions | None = None,
    ) -> None:
        self._model, self._trace, self._batches = model, trace, batches
        self._options = options or QuantizerOptions()
        self._weights = WeightQuantizers(model, trace, lambda: self.calibration.hessians, self._options)
        self.activations = ActivationQuantizers(
            model,
            trace,
            lambda: self.calibration,
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

    def calibration_inputs(self) -> Iterable[Structure]:
        """Return the batches of calibration inputs, on the device of the network."""
        return self._batches()

    @property
    def in_integers(self) -> bool:
        """Whether weights are integers with scales, not codebooks."""
        return self._options.weights == "linear"

    @cached_property
    def calibration(self) -> Calibration:
        """Observations of the calibration inputs, which are run on first use.

        Raises:
            UserError: Activations are not finite; the message names the layer.
        """
        needs_hessians = self.in_integers and ROUNDINGS[self._options.rounding].needs_hessian
        return calibrate(self._model, self._trace, self._batches(), with_hessians=needs_hessians)

    def has_weights(self, layer: int) -> bool:
        """Return whether a layer multiplies with weights, not with a second activation.

        Args:
            layer: Position of the layer.

        Returns:
            True if it does.
        """
        return self._trace.layers[layer].has_weights

    def is_scalable(self, layer: int, bits: Bits) -> bool:
        """Return whether the scales of a layer's weights can be multiplied by any factor per channel.

        Args:
            layer: Position of the layer.
            bits: Bit width of its weights; None for float.

        Returns:
            Whether they are integers with free scales per channel of the output, which no other layer uses.
        """
        found, sites = self._trace.layers[layer], self._trace.sites
        # Groups of a transposed convolution share their scales.
        has_scales = found.kind in SCALABLE_KINDS and (found.kind != "conv_transpose" or found.groups == 1)
        is_shared = sum(site.weights == sites[layer].weights for site in sites) > 1
        is_free = self.in_integers and self._options.weight_scales == ANY_SCALES
        return bits is not None and has_scales and is_free and not is_shared

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
            self._weights.quantized(layer, int(bits))

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
        codes = self._weights.quantized(layer, bits).codes
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
        return self._weights.quantized(layer, bits).values

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
        return self.activations.quantizer((layer, "input"), bits)

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
        found = self.activations.quantizer((layer, "second_input"), bits)
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
        return None if width is None else self.activations.quantizer(operand, width)

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
        return self.activations.quantize(x, (layer, "input"), bits)

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
        return self.activations.quantize(call.factor, (layer, "second_input"), bits)

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
            if w is not None and self.has_weights(layer):
                found |= self._weights.tensors(layer, w)
            elif w is not None:
                found |= self.activations.tensors((layer, "second_input"), w)
            if a is not None:
                found |= self.activations.tensors((layer, "input"), a)
        return found

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
            if w is not None and self.has_weights(layer):
                self._weights.load(tensors, layer, w)
            elif w is not None:
                name = f"{self._trace.layers[layer].name}.second_input"
                if f"{name}.scale" not in tensors:
                    raise KeyError(name)
                self.activations.load(tensors, (layer, "second_input"), w)
            if a is not None:
                self.activations.load(tensors, (layer, "input"), a)

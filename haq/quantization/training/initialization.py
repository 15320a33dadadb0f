"""Initial grids of learnable quantizers: those of least squared error, each computed once."""

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from haq.execution.structures import device_of
from haq.network.layer_calls import weight_of
from haq.network.layers import Trace
from haq.network.tracing.products import ActivationProduct
from haq.network.tracing.weighted_calls import WeightSlice
from haq.quantization.adaptive import AdaptiveQuantizer
from haq.quantization.affine import Shift
from haq.quantization.calibration_pass import Calibration, calibrate
from haq.quantization.grids import Grid
from haq.quantization.linear import quantize_weight
from haq.quantization.operands import Operand, OperandKey
from haq.quantization.range import weight_range
from haq.quantization.training.offsets import OFFSET_KINDS
from haq.quantization.weight_scales import (
    ANY_SCALES,
    ScaleRule,
    rows_with_scales,
    stored_scale,
    with_powers_of_two,
)
from hardware_sim.layer import Layer

LearnedShift = Literal["learned", "fixed", "none", "float"]
"""Zero points of skewed inputs: learned, fixed where calibration puts them, none, or LSQ+'s offset in float."""


class Initializer:
    """Initial quantizers of a network, for the weights and the input of every layer at every bit width.

    Args:
        model: Float network.
        trace: Its trace.
        batches: Function that returns the batches of calibration inputs. It is called once, when the grid of an input
            is first needed; they are then run in float.
        shift: Zero points of skewed inputs.
        scales: Rule for the scales of weights.
        power_of_two_inputs: Whether scales of inputs are powers of two.

    Attributes:
        trace: Trace of the network.
        shift: Zero points of skewed inputs.
        device: Device of the network.
    """

    def __init__(
        self,
        model: nn.Module,
        trace: Trace,
        batches: Callable[[], Iterable[Tensor]],
        *,
        shift: LearnedShift,
        scales: ScaleRule = ANY_SCALES,
        power_of_two_inputs: bool = False,
    ) -> None:
        self._model, self.trace, self._batches, self.shift = model, trace, batches, shift
        self._scales, self._power_of_two_inputs = scales, power_of_two_inputs
        self._weight_grids: dict[tuple[int, int], Grid] = {}
        self._grids: dict[tuple[OperandKey, int], Grid] = {}
        self.device = device_of(tuple(model.parameters()))

    def weight(self, layer: int, bits: int) -> AdaptiveQuantizer:
        """Return a new quantizer of a layer's weights, at the least squared error.

        Args:
            layer: Position of the layer.
            bits: Bit width, 1 to 8.

        Returns:
            The calibrated quantizer, with a scale for each output channel unless the rule demands one for all.

        Raises:
            ValueError: The weights are empty or not finite.
        """
        quantizer = weight_quantizer(self.trace.layers[layer], bits, rule=self._scales)
        if (layer, bits) not in self._weight_grids:
            self._weight_grids[layer, bits] = self._weight_grid(layer, bits)
        return _started(quantizer, self._weight_grids[layer, bits])

    def _weight_grid(self, layer: int, bits: int) -> Grid:
        """Return the grid of a layer's weights that is used without training."""
        weight, axis = weight_of(self._model, self.trace.sites[layer]).detach(), channel_axis(self.trace.layers[layer])
        rows, axis = rows_with_scales(weight, axis, self._scales)
        found = with_powers_of_two(rows, quantize_weight(rows, bits, channel_axis=axis), self._scales)
        scale = stored_scale(found.scale, self._scales).to(self.device)
        return Grid(scale, torch.zeros_like(scale), signed=True)

    def input(self, layer: int, bits: int, *, operand: Operand = "input") -> AdaptiveQuantizer | None:
        """Return a new quantizer of a layer's input, at the least squared error on the calibration inputs.

        Args:
            layer: Position of the layer.
            bits: Bit width, 1 to 8.
            operand: Which operand of a layer that multiplies two activations.

        Returns:
            The calibrated quantizer, with one grid for the tensor; None if the input is not a float tensor, such as the
            indices of an embedding.

        Raises:
            UserError: Activations on the calibration inputs are not finite.
        """
        key = (layer, operand)
        histogram = self._calibration.histograms.get(key)
        if histogram is None:
            return None
        powers, shift = self._power_of_two_inputs, shift_of(self.trace.layers[layer], self.shift)
        quantizer = input_quantizer(bits, signed=histogram.signed, shift=shift, power_of_two=powers)
        if (key, bits) not in self._grids:
            # A fixed shift stays where calibration puts it, so calibration has to be allowed one.
            kind: Shift = "integer" if shift == "fixed" else quantizer.shift_kind
            found = AdaptiveQuantizer(bits, shift=kind, power_of_two=powers)
            found.calibrate(histogram)
            self._grids[key, bits] = _grid(found, self.device)
        return _started(quantizer, self._grids[key, bits])

    @property
    def warning(self) -> str | None:
        """Warning about calls that the trace does not have, or None.

        The calibration inputs are run if they were not run yet.
        """
        return self._calibration.warning

    @cached_property
    def _calibration(self) -> Calibration:
        return calibrate(self._model, self.trace, self._batches())


def channel_axis(layer: Layer) -> int:
    """Return the axis of the output channels of a layer's weights.

    Args:
        layer: The layer.

    Returns:
        The axis.
    """
    return 1 if layer.kind == "conv_transpose" else 0


def weight_quantizer(layer: Layer, bits: int, *, rule: ScaleRule = ANY_SCALES) -> AdaptiveQuantizer:
    """Create the quantizer of a layer's weights: symmetric, and not calibrated.

    Args:
        layer: Layer with the weights.
        bits: Bit width, 1 to 8.
        rule: Rule for the scales: one for each output channel, unless it demands one for all.

    Returns:
        The quantizer.
    """
    return AdaptiveQuantizer(
        bits,
        signed=True,
        channel_axis=None if rule.per_tensor else channel_axis(layer),
        shift="none",
        narrow=weight_range(bits).narrow,
        batch_axis=None,
        power_of_two=rule.power_of_two,
    )


def input_quantizer(bits: int, *, signed: bool, shift: LearnedShift, power_of_two: bool = False) -> AdaptiveQuantizer:
    """Create the quantizer of a layer's input: one grid for the tensor; not calibrated.

    Args:
        bits: Bit width, 1 to 8.
        signed: Whether calibration saw a negative value. Without one a shift would not lower the error, so there is
            none.
        shift: Zero points of skewed inputs.
        power_of_two: Whether the scale is a power of two.

    Returns:
        The quantizer.
    """
    kinds: dict[LearnedShift, Shift] = {"learned": "integer", "fixed": "none", "none": "none", "float": "float"}
    return AdaptiveQuantizer(bits, shift=kinds[shift] if signed else "none", power_of_two=power_of_two)


def shift_of(layer: Layer, shift: LearnedShift) -> LearnedShift:
    """Return the zero points that the inputs of a layer can have.

    Args:
        layer: The layer.
        shift: Zero points of skewed inputs.

    Returns:
        The same; "learned" in place of "float" for layers whose bias cannot hold an offset.
    """
    return "learned" if shift == "float" and layer.kind not in OFFSET_KINDS else shift


def owners(trace: Trace) -> tuple[int, ...]:
    """Return, for each layer, the first layer that uses the same weights.

    Args:
        trace: Trace of the network.

    Returns:
        Position of that layer, by position.
    """
    first: dict[WeightSlice | ActivationProduct, int] = {}
    return tuple(first.setdefault(site.weights, layer) for layer, site in enumerate(trace.sites))


def _grid(quantizer: AdaptiveQuantizer, device: torch.device) -> Grid:
    scale = quantizer.scale.detach()
    zero_point = quantizer.start_zero_point
    if quantizer.shift_kind == "float" and quantizer.shift is not None:
        zero_point = zero_point - quantizer.shift.detach() / scale
    return Grid(scale.to(device), zero_point.to(device), signed=quantizer.grid.signed)


def _started(quantizer: AdaptiveQuantizer, grid: Grid) -> AdaptiveQuantizer:
    quantizer.start_at(grid.scale, grid.zero_point, signed=grid.signed)
    return quantizer

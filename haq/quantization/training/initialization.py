"""Where quantizers start before they learn: the grids of least squared error, each found once."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from haq.network.layer_calls import weight_of
from haq.network.layers import Trace
from haq.network.tracing.weighted_calls import WeightSlice
from haq.quantization.adaptive import AdaptiveQuantizer
from haq.quantization.affine import Shift
from haq.quantization.quantized_model import Calibration, calibrate
from hardware_sim.layer import Layer

LearnedShift = Literal["learned", "fixed", "none", "float"]
"""Zero points of skewed inputs: learned, as calibration leaves them, not at all, or LSQ+'s offset in float."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Where a quantizer starts."""

    scale: Tensor
    """[] or [channels]"""
    zero_point: Tensor
    signed: bool


class Initializer:
    """The starting grids of one network, for weights and inputs of every layer at every width.

    `batches` gives the calibration inputs; they are run, in float, when the first input's grid is asked for.
    """

    def __init__(
        self, model: nn.Module, trace: Trace, batches: Callable[[], Iterable[Tensor]], *, shift: LearnedShift
    ) -> None:
        self._model, self.trace, self._batches, self.shift = model, trace, batches, shift
        self._grids: dict[tuple[str, int, int], Grid] = {}
        self.device = weight_of(model, trace.sites[0]).device

    def weight(self, layer: int, bits: int) -> AdaptiveQuantizer:
        """A quantizer of a layer's weights."""
        quantizer = weight_quantizer(self.trace.layers[layer], bits)
        if ("weight", layer, bits) not in self._grids:
            quantizer.calibrate(weight_of(self._model, self.trace.sites[layer]))
            self._grids["weight", layer, bits] = _grid(quantizer, self.device)
        return _started(quantizer, self._grids["weight", layer, bits])

    def input(self, layer: int, bits: int) -> AdaptiveQuantizer | None:
        """A quantizer of a layer's input; None for indices, as an embedding's."""
        histogram = self._calibration.histograms[layer]
        if histogram is None:
            return None
        quantizer = input_quantizer(bits, signed=histogram.signed, shift=self.shift)
        if ("input", layer, bits) not in self._grids:
            # A fixed shift stays where calibration puts it, so calibration has to be allowed one.
            kind: Shift = "integer" if self.shift == "fixed" else quantizer.shift_kind
            found = AdaptiveQuantizer(bits, shift=kind)
            found.calibrate(histogram)
            self._grids["input", layer, bits] = _grid(found, self.device)
        return _started(quantizer, self._grids["input", layer, bits])

    @property
    def warning(self) -> str | None:
        """What calibration found wrong, in one line, if anything; calibrates where that was not done yet."""
        return self._calibration.warning

    @cached_property
    def _calibration(self) -> Calibration:
        return calibrate(self._model, self.trace, self._batches())


def weight_quantizer(layer: Layer, bits: int) -> AdaptiveQuantizer:
    """Of weights: symmetric, with a scale for every output channel; not started."""
    axis = 1 if layer.kind == "conv_transpose" else 0
    return AdaptiveQuantizer(bits, signed=True, channel_axis=axis, shift="none", narrow=True, batch_axis=None)


def input_quantizer(bits: int, *, signed: bool, shift: LearnedShift) -> AdaptiveQuantizer:
    """Of an input: one grid for the tensor; not started.

    What has no negative part gains nothing from a shift: its grid starts, and stays, at zero.
    """
    kinds: dict[LearnedShift, Shift] = {"learned": "integer", "fixed": "none", "none": "none", "float": "float"}
    return AdaptiveQuantizer(bits, shift=kinds[shift] if signed else "none")


def owners(trace: Trace) -> tuple[int, ...]:
    """For every layer the first that uses the same weights."""
    first: dict[WeightSlice, int] = {}
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

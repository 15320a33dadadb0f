"""One float pass over the calibration inputs: histograms of activations, and Hessians of the inputs of layers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from haq.errors import UserError
from haq.execution.networks import run_network
from haq.execution.structures import Structure
from haq.network.layer_calls import CallCount, LayerCalls, LayerIndex, untraced_text
from haq.network.layers import Trace
from haq.network.tracing.products import ActivationProduct
from haq.network.tracing.weighted_calls import Call, WeightSlice
from haq.quantization.histogram import Histogram, HistogramBuilder
from haq.quantization.input_hessians import HessianBuilder
from haq.quantization.operands import OperandKey


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Observations of one float pass over the calibration inputs.

    Attributes:
        histograms: Histogram of each operand that is a float tensor.
        hessians: Hessians of the inputs of layers, by layer; empty if they were not asked for.
        warning: Warning about calls of layers that the trace does not have; None if it has all.
    """

    histograms: Mapping[OperandKey, Histogram]
    hessians: dict[int, Tensor]
    warning: str | None


def calibrate(
    model: nn.Module, trace: Trace, batches: Iterable[Structure], *, with_hessians: bool = False
) -> Calibration:
    """Run the calibration inputs in float, and observe the inputs of all layers.

    Args:
        model: Float network.
        trace: Its trace.
        batches: Batches of calibration inputs, on the device of the network.
        with_hessians: Whether to compute the Hessians of inputs, which GPTQ needs.

    Returns:
        Histograms, Hessians and warning.

    Raises:
        UserError: Activations are NaN or infinite, or too large to be squared for Hessians; the message names the
            layer.
    """
    builders: dict[OperandKey, HistogramBuilder] = {}
    counts: dict[WeightSlice | ActivationProduct, CallCount] = {}
    hessians = HessianBuilder(trace) if with_hessians else None

    def observe(operand: OperandKey, x: Tensor) -> None:
        if x.is_floating_point():
            try:
                builders.setdefault(operand, HistogramBuilder()).update(x)
            except ValueError as error:
                raise UserError(f"input of layer {trace.layers[operand[0]].name!r}: {error}") from error

    def run(layer: int, call: Call) -> Tensor:
        observe((layer, "input"), call.input)
        if not call.has_weights:
            observe((layer, "second_input"), call.factor)
        if hessians is not None:
            hessians.update(layer, call)
        return call.run(call.input, call.factor)

    index = LayerIndex(model, trace.sites)
    with torch.no_grad():
        for batch in batches:
            run_network(model, batch, LayerCalls(index, run, counts=counts))
    histograms = {key: builder.build() for key, builder in builders.items()}
    return Calibration(histograms, {} if hessians is None else hessians.build(), untraced_text(model, counts))

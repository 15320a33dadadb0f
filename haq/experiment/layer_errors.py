"""Measurement of the error that every layer of a policy adds, and of the error that has accumulated at its output."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite

import numpy as np
import torch
from torch import Tensor

from haq.evaluation.chunks import chunk_size
from haq.evaluation.engines.finetuned import EpisodeEngine
from haq.evaluation.protocols import CorrectingEngine
from haq.execution.networks import run_network
from haq.execution.structures import Structure, item_count, take, to_device
from haq.experiment.prior.layer_losses import LayerLosses
from haq.experiment.problem import Network
from haq.network.layer_calls import LayerCalls
from haq.network.tracing.weighted_calls import Call
from haq.policy import PolicyBits
from haq.quantization.corrections import UNCORRECTED_KINDS, Corrections
from haq.quantization.quantized_model import QuantizedModel
from haq.runs.layer_errors import LayerError, LayerErrors

IMAGES = 32
"""Calibration images on which errors are measured."""
CHUNK_VALUES = 2**19
"""Input values that are run at once, as all activations of the float network are held: 3 images of 224x224."""


def measure_layer_errors(network: Network, bits: PolicyBits, losses: LayerLosses | None) -> LayerErrors | None:
    """Measure the errors of a policy at the outputs of all layers, in three passes over a few calibration images.

    Args:
        network: The prepared network.
        bits: (w_bits, a_bits) of every layer.
        losses: Losses of quantizing each layer alone, which are added to the record.

    Returns:
        The errors; None if the engine trains the network for every policy, so that layers have other weights.
    """
    engine, trace = network.engine, network.priced.trace
    if isinstance(engine, EpisodeEngine):
        return None
    corrections = engine.corrections(bits) if isinstance(engine, CorrectingEngine) else Corrections()
    model = QuantizedModel(network.priced.model, trace, network.quantizers)
    model.set_bits(*bits)
    inputs = next(iter(network.task.batches("calibration", batch_size=IMAGES)))[0]
    inputs = to_device(inputs, next(network.priced.model.parameters()).device)
    count, size = item_count(inputs), chunk_size(inputs, CHUNK_VALUES)
    added, accumulated = _Powers(), _Powers()
    comparison = _Comparison(model, corrections, is_centred=engine.images_per_policy > 0)
    for start in range(0, count, size):
        comparison.run(take(inputs, slice(start, start + size)), added, accumulated)
    layers = []
    for place, layer in enumerate(trace.layers):
        error = LayerError(name=layer.name, added=added.ratio(place), accumulated=accumulated.ratio(place))
        if losses is not None and np.isfinite(losses.losses).all():
            weights, of_input = (tuple(part) for part in losses.losses[place].tolist())
            error = error.model_copy(update={"weights": weights, "input": of_input})
        layers.append(error)
    return LayerErrors(images=count, layers=tuple(layers))


@dataclass(slots=True)
class _Powers:
    """Powers of errors and of signals by layer, summed over images."""

    errors: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))
    signals: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, layer: int, found: Tensor, expected: Tensor, centred: Callable[[Tensor], Tensor]) -> None:
        """Add the outputs of a call."""
        self.errors[layer] += centred(found - expected).square().sum(dtype=torch.float64).item()
        self.signals[layer] += centred(expected).square().sum(dtype=torch.float64).item()

    def ratio(self, layer: int) -> float | None:
        """Return the relative error of a layer; None if it was not run, or its error is not finite."""
        if layer not in self.errors:
            return None
        ratio = self.errors[layer] / (self.signals[layer] or 1.0)
        return ratio if isfinite(ratio) else None


@dataclass(slots=True)
class _Comparison:
    """Comparison of a quantized network with the float network at the output of every layer."""

    model: QuantizedModel
    corrections: Corrections
    is_centred: bool

    @torch.no_grad()
    def run(self, inputs: Structure, added: _Powers, accumulated: _Powers) -> None:
        """Run both networks on the same inputs, and add the powers of their outputs."""
        network, index = self.model.model, self.model.index
        floats: defaultdict[int, list[Tensor]] = defaultdict(list)

        def alone(layer: int, call: Call) -> Tensor:
            output = call.run(call.input, call.factor)
            added.add(layer, self.model.quantized(layer, call), output, self._centring(call))
            floats[layer].append(output.clone())  # what follows may write into the output in place
            return output

        def together(layer: int, call: Call) -> Tensor:
            output = self.corrections.correct(layer, call, self.model.quantized(layer, call))
            expected = floats[layer].pop(0) if floats[layer] else None
            if expected is not None and expected.shape == output.shape:
                accumulated.add(layer, output, expected, self._centring(call))
            return output

        run_network(network, inputs, LayerCalls(index, alone))
        run_network(network, inputs, LayerCalls(index, together, self.corrections.normalize))

    def _centring(self, call: Call) -> Callable[[Tensor], Tensor]:
        """Return the function that removes the means of channels, where the engine corrects them."""
        if not self.is_centred or call.operation.kind in UNCORRECTED_KINDS:
            return lambda output: output

        def centred(output: Tensor) -> Tensor:
            channels = output.ndim - 1 - call.operation.spatial_dims
            return output - output.mean(dim=[dim for dim in range(output.ndim) if dim != channels], keepdim=True)

        return centred

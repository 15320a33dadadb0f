"""Inputs of all layers in torch, the reference of comparisons from equal inputs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from haq.evaluation.engines.agreement import TIE
from haq.execution.networks import run_network
from haq.execution.structures import Structure
from haq.exporters.deployable import Deployable
from haq.network.layer_calls import LayerCalls
from haq.network.tracing.weighted_calls import Call
from haq.quantization.linear import QuantizerParameters
from haq.quantization.quantized_model import QuantizedModel


@dataclass(frozen=True, slots=True, eq=False)
class LayerInput:
    """Input of a layer in torch.

    Attributes:
        exact: Input before its quantizer.
        quantized: Input after its quantizer.
        quantizer: Parameters of the quantizer.
    """

    exact: Tensor
    quantized: Tensor
    quantizer: QuantizerParameters


@torch.no_grad()
def layer_inputs(network: Deployable, inputs: Structure) -> dict[int, LayerInput]:
    """Run a quantized network in torch, and record the quantized inputs of its layers.

    Args:
        network: Network with its policy.
        inputs: Inputs [n, ...].

    Returns:
        Inputs of the layers by position; none of layers with inputs in float or indices.
    """
    model, seen = QuantizedModel(network.model, network.trace, network.quantizers), dict[int, LayerInput]()
    model.set_bits(*network.bits)

    def answer(layer: int, call: Call) -> Tensor:
        a_bits = network.policy.a_bits[layer]
        quantizer = None if a_bits is None else network.quantizers.activation(layer, a_bits)
        if quantizer is not None and a_bits is not None and call.input.is_floating_point():
            exact = call.input.clone()  # the network may change it in place afterwards
            seen[layer] = LayerInput(exact, network.quantizers.input(exact, layer, a_bits), quantizer)
        return network.corrections.shift(layer, call, model.quantized(layer, call))

    run_network(network.model, inputs, LayerCalls(model.index, answer, network.corrections.normalize))
    return seen


def compare_inputs(expected: LayerInput, found: NDArray[Any]) -> tuple[int, int]:
    """Compare quantized values with those of torch.

    Args:
        expected: Input of a layer in torch.
        found: The same after its quantizer elsewhere, as values.

    Returns:
        Number of codes, and number of those that differ by more than a tie.
    """
    quantizer = expected.quantizer
    low, high = quantizer.q_min - quantizer.zero_point, quantizer.q_max - quantizer.zero_point
    steps = (expected.exact.double().numpy() / quantizer.scale).clip(low, high)
    codes = np.rint(found.astype(np.float64) / quantizer.scale)
    return codes.size, int((np.abs(codes - steps) > 0.5 + TIE).sum())

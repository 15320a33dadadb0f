"""Formats whose graphs compute in floats: their layers, and comparison with torch, layer by layer from equal inputs."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from haq.evaluation.engines.agreement import TIE
from haq.evaluation.engines.onnxruntime.sessions import by_name
from haq.execution.networks import run_network
from haq.execution.structures import Structure
from haq.exporters.cut_graph import cut_at, given_name
from haq.exporters.deployable import Deployable
from haq.exporters.formats import ExportedLayer
from haq.exporters.protocols import LayerCodes
from haq.network.layer_calls import LayerCalls
from haq.network.tracing.weighted_calls import Call
from haq.quantization.linear import QuantizerParameters
from haq.quantization.quantized_model import QuantizedModel

FLOAT_BYTES = 4
Arrays = Mapping[str, NDArray[Any]]
Execute = Callable[[onnx.ModelProto, Arrays], Arrays]
"""Function that runs a graph on its inputs by name, and returns its outputs by name."""


def float_layers(network: Deployable, grid_text: Callable[[int], str], *, reason: str) -> Iterator[ExportedLayer]:
    """Describe the layers of a file whose weights are float32 values on grids.

    Args:
        network: Network with its policy.
        grid_text: Describes the grid of weights of some bits.
        reason: Reason why runtimes compute the layers in floats.

    Yields:
        The layers in the order of the policy.
    """
    for layer, bits in zip(network.trace.layers, network.policy.layers, strict=True):
        yield ExportedLayer(
            name=bits.name,
            w_bits=bits.w_bits,
            a_bits=bits.a_bits,
            storage="float32" if bits.w_bits is None else f"float32{grid_text(bits.w_bits)}",
            weight_bytes=FLOAT_BYTES * layer.weights_read,
            is_integer=False,
            reason=reason,
        )


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


def graph_inputs(model: onnx.ModelProto, inputs: Structure, given: Mapping[str, Tensor] | None = None) -> Arrays:
    """Return the inputs of a graph by name.

    Args:
        model: Graph, whose inputs are those of a network in their order, and `given`.
        inputs: Inputs of the network, [n, ...].
        given: Further inputs by name.

    Returns:
        Arrays by name.
    """
    others = given or {}
    own = [value.name for value in model.graph.input if value.name not in others]
    return {name: tensor.numpy(force=True) for name, tensor in {**by_name(own, inputs), **others}.items()}


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


def compare_layers(
    network: Deployable,
    inputs: Structure,
    *,
    model: onnx.ModelProto,
    tensors: Mapping[int, str],
    execute: Execute,
    reason: str,
) -> Iterator[LayerCodes]:
    """Compare the input codes of every layer, computed from equal inputs of the layers before it.

    Codes at ties, whose values in torch are within 0.01 steps of the border between two codes, do not count as
    differing: floats are added in another order.

    Args:
        network: Network with its policy.
        inputs: Inputs of the network, [n, ...].
        model: Graph of the network in floats.
        tensors: Quantized input of each layer in the graph, by position.
        execute: Function that runs a graph.
        reason: Reason why the runtime computes in floats.

    Yields:
        The layers of the policy in order.
    """
    seen = {layer: each for layer, each in layer_inputs(network, inputs).items() if layer in tensors}
    cut = cut_at(model, {tensors[layer]: tuple(each.exact.shape) for layer, each in seen.items()})
    given = {given_name(tensors[layer]): each.quantized for layer, each in seen.items()}
    found = execute(cut, graph_inputs(cut, inputs, given)) if seen else {}
    for layer, bits in enumerate(network.policy.layers):
        if layer not in seen:
            yield LayerCodes(layer=bits.name, is_integer=False, reason="its input is in float")
            continue
        compared, differing = _count(seen[layer], found[tensors[layer]])
        yield LayerCodes(layer=bits.name, is_integer=False, reason=reason, compared=compared, differing=differing)


def _count(expected: LayerInput, found: NDArray[Any]) -> tuple[int, int]:
    """Return the number of codes, and of those that differ by more than a tie."""
    quantizer = expected.quantizer
    low, high = quantizer.q_min - quantizer.zero_point, quantizer.q_max - quantizer.zero_point
    steps = (expected.exact.double().numpy() / quantizer.scale).clip(low, high)
    codes = np.rint(found.astype(np.float64) / quantizer.scale)
    return codes.size, int((np.abs(codes - steps) > 0.5 + TIE).sum())

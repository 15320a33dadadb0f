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
from haq.exporters.formats import NO_WEIGHTS, ExportedLayer
from haq.exporters.protocols import LayerCodes
from haq.network.layer_calls import LayerCalls
from haq.network.tracing.weighted_calls import Call
from haq.quantization.linear import QuantizerParameters
from haq.quantization.operands import OperandKey
from haq.quantization.quantized_model import QuantizedModel
from haq.quantization.range import fake_quantize
from hardware_sim.cost import Bits
from hardware_sim.layer import Layer

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
            storage=_storage(layer, bits.w_bits, grid_text),
            weight_bytes=FLOAT_BYTES * layer.weights_read,
            is_integer=False,
            reason=reason,
        )


def _storage(layer: Layer, w_bits: Bits, grid_text: Callable[[int], str]) -> str:
    if not layer.has_weights:
        return NO_WEIGHTS
    return "float32" if w_bits is None else f"float32{grid_text(w_bits)}"


@dataclass(frozen=True, slots=True, eq=False)
class Activation:
    """Quantized operand of a layer in torch.

    Attributes:
        exact: Values before the quantizer.
        quantized: Values after the quantizer.
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
def activations(network: Deployable, inputs: Structure) -> dict[OperandKey, Activation]:
    """Run a quantized network in torch, and record the quantized activations that its layers read.

    Args:
        network: Network with its policy.
        inputs: Inputs [n, ...].

    Returns:
        Activations by operand; none of operands in float or indices.
    """
    model, seen = QuantizedModel(network.model, network.trace, network.quantizers), dict[OperandKey, Activation]()
    model.set_bits(*network.bits)

    def record(operand: OperandKey, x: Tensor) -> None:
        layer = network.policy.layers[operand[0]]
        quantizer = network.quantizers.of_operand(operand, (layer.w_bits, layer.a_bits))
        if quantizer is not None and x.is_floating_point():
            exact = x.clone()  # the network may change it in place afterwards
            bounds = quantizer.zero_point, quantizer.q_min, quantizer.q_max
            seen[operand] = Activation(exact, fake_quantize(exact, torch.tensor(quantizer.scale), *bounds), quantizer)

    def answer(layer: int, call: Call) -> Tensor:
        record((layer, "input"), call.input)
        if not call.has_weights:
            record((layer, "second_input"), call.factor)
        return network.corrections.correct(layer, call, model.quantized(layer, call))

    run_network(network.model, inputs, LayerCalls(model.index, answer, network.corrections.normalize))
    return seen


def compare_layers(
    network: Deployable,
    inputs: Structure,
    *,
    model: onnx.ModelProto,
    tensors: Mapping[OperandKey, str],
    execute: Execute,
    reason: str,
) -> Iterator[LayerCodes]:
    """Compare the codes of every layer's activations, computed from equal activations of the layers before it.

    Codes at ties, whose values in torch are within 0.01 steps of the border between two codes, do not count as
    differing: floats are added in another order.

    Args:
        network: Network with its policy.
        inputs: Inputs of the network, [n, ...].
        model: Graph of the network in floats.
        tensors: Quantized activation in the graph by operand.
        execute: Function that runs a graph.
        reason: Reason why the runtime computes in floats.

    Yields:
        The layers of the policy in order.
    """
    seen = {operand: each for operand, each in activations(network, inputs).items() if operand in tensors}
    cut = cut_at(model, {tensors[operand]: tuple(each.exact.shape) for operand, each in seen.items()})
    given = {given_name(tensors[operand]): each.quantized for operand, each in seen.items()}
    found = execute(cut, graph_inputs(cut, inputs, given)) if seen else {}
    for layer, bits in enumerate(network.policy.layers):
        operands = [operand for operand in seen if operand[0] == layer]
        if not operands:
            yield LayerCodes(layer=bits.name, is_integer=False, reason="its input is in float")
            continue
        counts = [_count(seen[operand], found[tensors[operand]]) for operand in operands]
        compared, differing = map(sum, zip(*counts, strict=True))
        yield LayerCodes(layer=bits.name, is_integer=False, reason=reason, compared=compared, differing=differing)


def _count(expected: Activation, found: NDArray[Any]) -> tuple[int, int]:
    """Return the number of codes, and of those that differ by more than a tie."""
    quantizer = expected.quantizer
    low, high = quantizer.q_min - quantizer.zero_point, quantizer.q_max - quantizer.zero_point
    steps = (expected.exact.double().numpy() / quantizer.scale).clip(low, high)
    codes = np.rint(found.astype(np.float64) / quantizer.scale)
    return codes.size, int((np.abs(codes - steps) > 0.5 + TIE).sum())

"""Quantized network in float64, which exported graphs are compared with from equal codes."""

from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from haq.evaluation.engines.onnxruntime.assembly import code_offset
from haq.evaluation.engines.onnxruntime.segments import with_rounded_biases
from haq.execution.networks import run_network
from haq.execution.structures import Structure, map_tensors, tensors
from haq.exporters.deployable import Deployable
from haq.exporters.onnx.segments import SegmentValues, StoredCodes
from haq.network.layer_calls import LayerCalls, LayerIndex
from haq.network.tracing.weighted_calls import Call
from haq.quantization.corrections import Corrections
from haq.quantization.linear import QuantizerParameters
from haq.quantization.operands import Operand


class PreciseNetwork:
    """Quantized network in float64, with the biases as the integer graph rounds them.

    A network that does not run in float64, since its code creates float32 tensors, runs in float32.

    Args:
        network: Network with its policy.
    """

    def __init__(self, network: Deployable) -> None:
        self._trace, self._quantizers = network.trace, network.quantizers
        self._w_bits, self._a_bits = network.bits
        self._original = network.model
        self._products = network.template.products
        self._corrections = with_rounded_biases(network.template, network.quantizers, network.bits, network.corrections)
        self._in_dtype(torch.float64)

    def _in_dtype(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._model: nn.Module = deepcopy(self._original).to(dtype)
        statistics = {
            norm: (mean.to(dtype), variance.to(dtype))
            for norm, (mean, variance) in self._corrections.statistics.items()
        }
        self._corrections = Corrections(statistics, self._corrections.biases, self._corrections.scales)

    @torch.no_grad()
    def run(self, inputs: Structure) -> SegmentValues:
        """Run the network.

        Args:
            inputs: Inputs of the network, [n, ...].

        Returns:
            Codes of all quantized activations that layers read, as they are stored in exported graphs, and the outputs.
        """
        try:
            return self._run(inputs)
        except RuntimeError:
            if self._dtype == torch.float32:
                raise
            self._in_dtype(torch.float32)
            return self._run(inputs)

    def _run(self, inputs: Structure) -> SegmentValues:
        codes: dict[str, StoredCodes] = {}

        def quantized(layer: int, operand: Operand, x: Tensor) -> Tensor:
            bits = self._w_bits[layer], self._a_bits[layer]
            quantizer = self._quantizers.of_operand((layer, operand), bits)
            if quantizer is None:
                return x
            found = _codes(x, quantizer)
            stored = found + code_offset(quantizer)
            stored = self._products[layer].read(stored) if operand == "input" else stored
            codes[f"{self._trace.layers[layer].name}.{operand}"] = stored.to(torch.uint8).contiguous().numpy()
            return (found - quantizer.zero_point).to(self._dtype) * quantizer.scale

        def compute(layer: int, call: Call) -> Tensor:
            x = quantized(layer, "input", call.input)
            second = self._weight(layer, call) if call.has_weights else quantized(layer, "second_input", call.factor)
            return self._corrections.correct(layer, call, call.run(x, second))

        calls = LayerCalls(LayerIndex(self._model, self._trace.sites), compute, self._corrections.normalize)
        outputs = run_network(self._model, map_tensors(self._converted, inputs), calls)
        return SegmentValues(codes, [np.asarray(tensor.numpy(force=True)) for tensor in tensors(outputs)])

    def _weight(self, layer: int, call: Call) -> Tensor:
        bits = self._w_bits[layer]
        if bits is None:
            return call.factor
        weight = self._quantizers.codes(layer, bits)
        shape = [-1 if dim == weight.channel_axis else 1 for dim in range(weight.codes.ndim)]
        return weight.codes.to(self._dtype) * weight.scale.to(self._dtype).reshape(shape)

    def _converted(self, tensor: Tensor) -> Tensor:
        return tensor.to("cpu", self._dtype) if tensor.is_floating_point() else tensor.cpu()


def _codes(x: Tensor, quantizer: QuantizerParameters) -> Tensor:
    """Return the codes of values, int32."""
    codes = torch.round((x - quantizer.offset) / quantizer.scale) + quantizer.zero_point
    return codes.clamp(quantizer.q_min, quantizer.q_max).to(torch.int32)

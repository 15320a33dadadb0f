"""Quantized network with some input codes moved by one step, to measure the effect of other roundings on outputs."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Generator, Tensor

from haq.network.layers import Trace
from haq.network.tracing.weighted_calls import Call
from haq.quantization.linear import QuantizerParameters
from haq.quantization.operands import Operand, OperandKey
from haq.quantization.quantized_model import QuantizedModel

_ARGUMENTS: Mapping[Operand, str] = {"input": "input", "second_input": "weight"}
"""Arguments of a call by operand."""


class MovedCodes(QuantizedModel):
    """Quantized network in which a random share of the codes of each operand of its layers is moved by one step.

    Operands without a share, and those that are not quantized, are not changed.

    Args:
        original: Quantized network.
        trace: Its trace.
        shares: Share of codes to move, in [0, 1], by operand.
        seed: Seed of the places and directions.
    """

    def __init__(
        self, original: QuantizedModel, trace: Trace, *, shares: Mapping[OperandKey, float], seed: int
    ) -> None:
        super().__init__(original.model, trace, original.quantizers)
        self._shares, self._generator = shares, Generator().manual_seed(seed)

    def quantized(self, layer: int, call: Call) -> Tensor:
        """Compute a layer with moved codes, without corrections.

        Args:
            layer: Position of the layer.
            call: Its call.

        Returns:
            Output of the layer.
        """
        arguments = dict(call.arguments)
        for operand, name in _ARGUMENTS.items():
            key = (layer, operand)
            share = self._shares.get(key, 0.0)
            quantizer = self.quantizers.of_operand(key, self._bits[layer]) if share else None
            if quantizer is not None:
                arguments[name] = self._moved(arguments[name], quantizer, share)
        return super().quantized(layer, replace(call, arguments=arguments))

    def _moved(self, x: Tensor, quantizer: QuantizerParameters, share: float) -> Tensor:
        """Return a copy of x in which some values are those of an adjacent code; codes at an end are moved inwards."""
        count = int(torch.poisson(torch.tensor(share * x.numel()), generator=self._generator))
        places = torch.randint(x.numel(), (count,), generator=self._generator).to(x.device)
        steps = (2 * torch.randint(2, (count,), generator=self._generator) - 1).to(x.device)
        low, high = quantizer.q_min - quantizer.zero_point, quantizer.q_max - quantizer.zero_point
        moved = x.flatten().clone()
        codes = (moved[places] / quantizer.scale).round().clamp(low, high)
        steps = torch.where(codes == low, 1, torch.where(codes == high, -1, steps))
        moved[places] = (codes + steps) * quantizer.scale
        return moved.view(x.shape)

"""A network with a policy applied; the network itself is not changed."""

from collections.abc import Sequence

from torch import Tensor, nn

from haq.execution.networks import call_network
from haq.execution.structures import Structure
from haq.network.layer_calls import LayerCalls, LayerIndex
from haq.network.layers import Trace
from haq.network.tracing.weighted_calls import Call
from haq.quantization.corrections import Corrections
from haq.quantization.quantizers import Quantizers
from hardware_sim.cost import Bits


class QuantizedModel(nn.Module):
    """Network whose traced layers are quantized by a policy while it runs; the network itself is not changed.

    `set_bits` is cheap: nothing is calibrated, and no weight is quantized twice to the same bit width. At first all
    layers are in float.

    Args:
        model: Float network.
        trace: Its trace.
        quantizers: Its quantizers.

    Attributes:
        model: Float network.
        index: Index of its layers and batch norms.
        quantizers: Its quantizers.
    """

    def __init__(self, model: nn.Module, trace: Trace, quantizers: Quantizers) -> None:
        super().__init__()
        self.model = model
        self.index = LayerIndex(model, trace.sites)
        self._trace, self.quantizers = trace, quantizers
        self._corrections = Corrections()
        self._bits: list[tuple[Bits, Bits]] = [(None, None)] * len(trace.layers)

    def set_bits(self, w_bits: Sequence[Bits], a_bits: Sequence[Bits]) -> None:
        """Set the bits of all layers.

        Args:
            w_bits: Bits of the weights of each layer; None for float.
            a_bits: Bits of the input of each layer; None for float.

        Raises:
            ValueError: The number of bits is not that of the layers.
        """
        if not len(w_bits) == len(a_bits) == len(self._trace.layers):
            raise ValueError(f"{len(self._trace.layers)} layers need as many bits, got {len(w_bits)} and {len(a_bits)}")
        self._bits = list(zip(w_bits, a_bits, strict=True))

    def forward(self, *inputs: Structure, **named: Structure) -> Structure:
        """Run the network with quantized layers.

        Args:
            inputs: Positional arguments of the network.
            named: Keyword arguments of the network.

        Returns:
            Outputs of the network.
        """
        # Built anew for every pass: a copy of this network, a move to a device and an export have other tensors.
        index = LayerIndex(self.model, self._trace.sites)
        calls = LayerCalls(index, self._answer, self._corrections.normalize)
        return call_network(self.model, inputs, named, calls)

    def set_corrections(self, corrections: Corrections) -> None:
        """Set the corrections of outputs and batch norms; they apply until others are set, whatever the bits.

        Args:
            corrections: Corrections; empty ones for none.
        """
        self._corrections = corrections

    def _answer(self, layer: int, call: Call) -> Tensor:
        return self._corrections.correct(layer, call, self.quantized(layer, call))

    def is_scalable(self, layer: int) -> bool:
        """Return whether the output of a layer may be scaled, since its weights have scales of their own.

        Args:
            layer: Position of the layer.

        Returns:
            Whether `quantizers` allow it with the bits of the layer.
        """
        return self.quantizers.is_scalable(layer, self._bits[layer][0])

    def quantized(self, layer: int, call: Call) -> Tensor:
        """Compute a layer with quantized weights (or second operand) and input, without corrections.

        Args:
            layer: Position of the layer.
            call: Its call.

        Returns:
            Output of the layer.
        """
        w_bits, a_bits = self._bits[layer]
        factor = call.factor if w_bits is None else self.quantizers.factor(call, layer, w_bits)
        return call.run(call.input if a_bits is None else self.quantizers.input(call.input, layer, a_bits), factor)

"""Inputs whose grid has a float offset: the layer multiplies the values without it, and the offset becomes a bias.

Runtimes pad convolutions with the zero point. Here as well, the border holds the value of the zero point's code, the
offset, where a convolution of the values themselves would have zeros. So a runtime that subtracts the offset before it
quantizes, and adds it times the sums of the weights to the biases, computes the same.
"""

from torch import Tensor

from haq.network.tracing.weighted_calls import Call
from haq.quantization.adaptive import AdaptiveQuantizer
from hardware_sim.layer import LayerKind

OFFSET_KINDS: tuple[LayerKind, ...] = ("conv", "depthwise", "linear")
"""Kinds of layers in which every output of a channel has the same sum of weights, so that a bias can hold an offset."""


def run_quantized(call: Call, quantizer: AdaptiveQuantizer, factor: Tensor) -> Tensor:
    """Run a layer with a quantized input.

    Args:
        call: Call of the layer, of one of `OFFSET_KINDS` if the quantizer has an offset.
        quantizer: Quantizer of the input.
        factor: Weights, [c_out, ...] in layers with an offset, or the second operand of a product of two activations.

    Returns:
        Output of the layer.
    """
    offset = quantizer.offset
    if offset is None:
        return call.run(quantizer(call.input), factor)
    # The quantizer's own gradient to the shift is that of the whole value, as if the offset were added to it.
    bias = factor.flatten(1).sum(dim=1) * offset.detach()
    output = call.run(quantizer(call.input, centered=True), factor)
    return output + bias.to(output.dtype).reshape(-1, *[1] * call.operation.spatial_dims)

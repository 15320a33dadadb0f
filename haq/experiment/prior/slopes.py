"""Changes of outputs along a random direction when one layer is quantized, see `haq.experiment.prior.fisher`."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from haq.execution.networks import NetworkGuard
from haq.experiment.prior.gradient_slopes import gradient_slopes, has_gradient_slopes
from haq.experiment.prior.layer_losses import FloatArray
from haq.network.tracing.weighted_calls import Call
from haq.quantization.corrections import UNCORRECTED_KINDS
from haq.quantization.moments import channel_moments
from haq.quantization.quantized_model import QuantizedModel
from haq.quantization.quantizers import Quantizers
from haq.quantization.range import ALL_BITS


@dataclass(slots=True)
class ProbedCall:
    """Call of a layer in the float network, with a probe at its output.

    Attributes:
        layer: Index of the layer.
        call: Operation and arguments of the call.
        probe: Zeros that are added to the output. Their gradient is that of the output, even if the network writes
            into the output in place later.
        eps: Epsilon of the batch norm that reads the output, if any.
    """

    layer: int
    call: Call
    probe: Tensor
    eps: float | None = None


@torch.no_grad()
def directional_changes(
    model: QuantizedModel, probed: ProbedCall, gradient: Tensor, *, images: int, is_corrected: bool
) -> FloatArray:
    """Compute the directional changes g . d of all quantizations of a call.

    Args:
        model: The network with its quantizers.
        probed: The call.
        gradient: Gradient g of the random direction, in the shape of the layer's output.
        images: Number of images.
        is_corrected: Whether policies are evaluated with corrections.

    Returns:
        Changes [image, part, bits - 1]; the parts are weights and input.
    """
    call, quantizers, layer = probed.call, model.quantizers, probed.layer
    corrects = is_corrected and call.operation.kind not in UNCORRECTED_KINDS
    restores_variance = corrects and probed.eps is not None
    if not restores_variance and has_gradient_slopes(call, gradient, images=images):
        found = gradient_slopes(quantizers, layer, call, gradient, images=images, is_corrected=corrects)
    else:
        with NetworkGuard():
            found = _forward_slopes(quantizers, probed, gradient, images=images, is_corrected=corrects)
    changes: FloatArray = found.permute(2, 0, 1).double().numpy(force=True)
    return changes


def _forward_slopes(
    quantizers: Quantizers, probed: ProbedCall, gradient: Tensor, *, images: int, is_corrected: bool
) -> Tensor:
    """Compute the directional changes [part, bits - 1, image] from the outputs at all widths."""
    call, layer = probed.call, probed.layer
    output = call.run(call.input, call.factor)

    def plain(changed: Tensor) -> Tensor:
        return _by_image((changed - output) * gradient, images)

    slope = _CorrectedSlope(probed, output, gradient, images=images) if is_corrected else plain
    weights = [slope(call.run(call.input, quantizers.factor(call, layer, bits))) for bits in ALL_BITS]
    inputs = [slope(call.run(quantizers.input(call.input, layer, bits), call.factor)) for bits in ALL_BITS]
    return torch.stack([*weights, *inputs]).reshape(2, len(ALL_BITS), images)


class _CorrectedSlope:
    """Directional change of a corrected output.

    Corrections restore the mean of every channel, before a batch norm also its variance: an output y + d becomes
    (y + d - mean(y + d)) gain + mean(y), see `haq.quantization.corrections`. Its change is linear in the sums of d g,
    y g and g over each channel, of which only the first depends on the bits.

    Args:
        probed: Call of the layer.
        output: Its float output y.
        gradient: Gradient g of the random direction, in the shape of the output.
        images: Number of images.
    """

    def __init__(self, probed: ProbedCall, output: Tensor, gradient: Tensor, *, images: int) -> None:
        self._output, self._gradient, self._images, self._eps = output, gradient, images, probed.eps
        self._axis = output.ndim - 1 - probed.call.operation.spatial_dims
        self._mean, self._variance = channel_moments(output, self._axis)
        self._of_output, self._of_ones = self._sums(output * gradient), self._sums(gradient)

    def __call__(self, changed: Tensor) -> Tensor:
        """Return the change g . d [image] of a changed output."""
        mean, variance = channel_moments(changed, self._axis)
        gain = torch.ones_like(mean)
        if self._eps is not None:
            gain = ((self._variance + self._eps) / (variance + self._eps)).sqrt()
        of_change = self._sums((changed - self._output) * self._gradient)
        found = gain * of_change + (gain - 1) * self._of_output + (self._mean - gain * mean) * self._of_ones
        return found.sum(dim=1)

    def _sums(self, products: Tensor) -> Tensor:
        """Sum products [image, channel]; see `_by_image` where images are not the first axis."""
        if self._axis == 0 or len(products) % self._images:
            others = [dim for dim in range(products.ndim) if dim != self._axis]
            return (products.sum(dim=others) / math.sqrt(self._images)).expand(self._images, -1)
        channels = products.shape[self._axis]
        others = [dim for dim in range(1, products.ndim) if dim != self._axis]
        rows = products.sum(dim=others) if others else products
        return rows.reshape(self._images, -1, channels).sum(dim=1)


def _by_image(products: Tensor, images: int) -> Tensor:
    """Sum products over each image [image]; if images are not the first axis, return equal shares of the total.

    Directions of different images are independent, so that the squared total is the sum of squares in expectation.
    """
    if len(products) % images == 0:
        return products.reshape(images, -1).sum(dim=1)
    return (products.sum() / math.sqrt(images)).expand(images)

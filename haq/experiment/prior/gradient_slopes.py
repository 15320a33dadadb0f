"""Directional changes of layers that are linear in weights and input, from two gradients instead of 16 forward passes.

The change of an output y = op(x, W) along a gradient g is a product with a gradient of g . y: for changes dW and dx of
any width, g . op(x, dW) is dW . grad_W and g . op(dx, W) is dx . grad_x. Changes of the mean of every channel, which
corrections undo, are those of the mean of all images. Images are processed one by one, as memory for large activations
costs more time than the arithmetic on them.
"""

from dataclasses import replace

import torch
from torch import Tensor

from haq.network.tracing.weighted_calls import Call
from haq.quantization.quantizers import Quantizers
from haq.quantization.range import ALL_BITS

_VALUES_AT_ONCE = 1 << 16
"""Values that are quantized at once on a CPU: few enough for the cache of a core."""


def has_gradient_slopes(call: Call, gradient: Tensor, *, images: int) -> bool:
    """Return whether a call is linear in weights and input, with images on the first axis of input and output.

    Args:
        call: The call.
        gradient: Gradient at its output, in the shape of the output.
        images: Number of images.

    Returns:
        True if it is.
    """
    has_batch = min(call.input.ndim, gradient.ndim) > call.operation.spatial_dims + 1
    is_divisible = not len(call.input) % images and not len(gradient) % images
    return call.has_weights and call.input.is_floating_point() and has_batch and is_divisible


def gradient_slopes(
    quantizers: Quantizers, layer: int, call: Call, gradient: Tensor, *, images: int, is_corrected: bool
) -> Tensor:
    """Compute the directional changes of all quantizations of a call of which `has_gradient_slopes` is true.

    Args:
        quantizers: Quantizers of the network.
        layer: Index of the layer.
        call: The call, whose tensors need no gradient.
        gradient: Gradient g at its output, in the shape of the output.
        images: Number of images.
        is_corrected: Whether corrections restore the mean of every channel of the output.

    Returns:
        Changes [part, bits - 1, image]; the parts are weights and input.
    """
    x, weight = call.input, call.factor
    product = replace(call, arguments={**call.arguments, "bias": None})
    of_weights = torch.stack([quantizers.factor(call, layer, bits) - weight for bits in ALL_BITS])
    mean = torch.zeros_like(x[: len(x) // images])
    of_inputs = x.new_zeros(len(ALL_BITS), *mean.shape)  # changes, summed over images
    found = x.new_zeros(2, len(ALL_BITS), images)
    parts = zip(*(torch.split(each, len(each) // images) for each in (x, gradient)), strict=True)
    for image, (some, along) in enumerate(parts):
        mean += some / images
        weight_gradient, input_gradient = _gradients(product, some, along)
        found[0, :, image] = of_weights.flatten(1) @ weight_gradient.flatten()
        found[1, :, image] = _add_input_changes(quantizers, layer, some, input_gradient, of_inputs.flatten(1))
    if not is_corrected:
        return found
    changed = [product.run(mean, change) for change in of_weights]
    changed += [product.run(change, weight) for change in of_inputs / images]
    axis = gradient.ndim - 1 - call.operation.spatial_dims
    means = torch.stack([_rows(each, axis).mean(dim=1) for each in changed]).reshape(2, len(ALL_BITS), -1)
    sums = torch.stack([_rows(each, axis).sum(dim=1) for each in torch.split(gradient, len(gradient) // images)])
    return found - means @ sums.mT


@torch.enable_grad()
def _gradients(call: Call, x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients w.r.t. weights and input; of copies, as tensors of inference mode can have none."""
    weight, x = call.factor.clone().requires_grad_(), x.clone().requires_grad_()
    of_weight, of_input = torch.autograd.grad(call.run(x, weight), (weight, x), gradient)
    return of_weight, of_input


def _add_input_changes(quantizers: Quantizers, layer: int, x: Tensor, gradient: Tensor, total: Tensor) -> Tensor:
    """Add the changes of an input of each width to `total` [bits - 1, values]; return their slopes [bits - 1]."""
    at_once = _VALUES_AT_ONCE if x.device.type == "cpu" else x.numel()
    slopes = x.new_zeros(len(ALL_BITS), dtype=torch.float64)
    chunks = (torch.split(each.flatten(), at_once) for each in (x, gradient))
    for number, (some, along) in enumerate(zip(*chunks, strict=True)):
        place = slice(number * at_once, (number + 1) * at_once)
        for row, bits in enumerate(ALL_BITS):
            change = quantizers.input(some, layer, bits) - some
            slopes[row] += change.dot(along)
            total[row, place] += change
    return slopes


def _rows(values: Tensor, axis: int) -> Tensor:
    """Return values [channels, others]."""
    return values.movedim(axis, 0).flatten(1)

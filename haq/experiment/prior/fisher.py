"""What every width of every layer can be expected to lose, from one backward pass over a few images.

Close to the float network, what a changed network's outputs lose is c E[(g . d)^2]. There d is what the change does to
the output of a layer, and g the gradient, with respect to that output, of a random direction in the logits whose
covariance is the Fisher information of the outputs (Martens 2020, arXiv 1412.1193; for quantization FIT, Zandonati et
al. 2022, arXiv 2210.08502). For the KL divergence that is the information of a softmax, diag(p) - p p^T, and c is 1/2;
for the power of noise on the outputs it is that of a Gaussian, the same for all outputs.

The usual direction is that of a label drawn from p: 1_y - p. A confident network draws the same label again and again,
with next to no gradient, and almost all images tell nothing. So every class gets a random sign s here, as in
Hutchinson's estimator: z = sqrt(p) s - p (sqrt(p) . s) has the same covariance, and every image counts. For noise z
is s less its mean.

The information is that of a layer's whole output, image by image, not its diagonal: rounding moves many values
together. What corrections take back of a change (`haq.quantization.corrections`) is no part of it.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Generator, Tensor
from torch.utils.weak import WeakIdKeyDictionary

from haq.execution.networks import NetworkGuard, run_network
from haq.execution.user_code import one_line
from haq.experiment.prior.layer_losses import FloatArray, LayerLosses
from haq.experiment.prior.measured import PRIOR_IMAGES, measured_losses
from haq.experiment.problem import Network
from haq.network.layer_calls import LayerCalls, NormCall
from haq.network.tracing.weighted_calls import Call
from haq.quantization.quantized_model import QuantizedModel
from haq.quantization.range import ALL_BITS
from haq.tasks.distances import centred, power

IMAGES_AT_ONCE = 32
"""Every activation of so many is held in memory, with its gradient."""
NAMES_AT_MOST = 3
"""Layers in a warning."""
BACKWARD_FORWARDS = 2
"""What a backward pass counts as."""
Loss = Literal["divergence", "noise"]
"""As in `haq.evaluation.protocols.Evaluation`."""


class BackwardError(Exception):
    """A network does not run while gradients are recorded, or not backwards; says why in one line."""


def fisher_sensitivity(
    model: QuantizedModel, batches: Iterable[Tensor], *, loss: Loss, is_corrected: bool, generator: Generator
) -> LayerLosses:
    """Measure all layers at all widths on batches of inputs [n, ...]; a few dozen images are enough.

    `is_corrected` tells whether policies are evaluated with corrections. Images are counted as forward passes: one, the
    backward pass as two, and each layer once more for every width of its weights and of its input.
    Raises BackwardError where the network raises an error while gradients are recorded or computed.
    """
    layers, images, scale = len(model.index.layers), 0, 0.0
    squares = np.zeros((layers, 2, len(ALL_BITS)))
    for inputs in batches:
        found = np.zeros((len(inputs), layers, 2, len(ALL_BITS)))
        logits, gradients = _gradients(model, inputs, loss, generator)
        for taken, gradient in gradients:
            with NetworkGuard():
                found[:, taken.layer] += _slopes(model, taken, gradient, images=len(inputs), is_corrected=is_corrected)
        squares += np.square(found).sum(axis=0)
        scale += 2 * len(inputs) if loss == "divergence" else power(logits).item()
        images += len(inputs)
    return LayerLosses(squares / (scale or 1.0), images * (1 + BACKWARD_FORWARDS + 2 * len(ALL_BITS)))


def network_fisher(network: Network, *, loss: Loss = "noise", seed: int = 0) -> LayerLosses:
    """The same for a prepared network, on the first calibration images.

    Where no gradient arrives at a layer, as under `torch.no_grad` or before a rounding, its losses are measured, on as
    many images, and a warning names it; so are all where the network does not run with gradients.
    """
    model = QuantizedModel(network.priced.model, network.priced.trace, network.quantizers)
    device = next(network.priced.model.parameters()).device
    images = next(iter(network.task.batches("calibration", batch_size=PRIOR_IMAGES)))[0].to(device)
    try:
        estimated = fisher_sensitivity(
            model,
            torch.split(images, IMAGES_AT_ONCE),
            loss=loss,
            is_corrected=network.engine.images_per_policy > 0,
            generator=Generator().manual_seed(seed),
        )
    except BackwardError as error:
        measured = measured_losses(network, range(len(model.index.layers)), loss=loss)
        return replace(measured, warnings=(f"sensitivities are measured, as the network has no gradients: {error}",))
    unreached = [layer for layer, losses in enumerate(estimated.losses) if not losses.any()]
    return _with_measured(network, estimated, unreached, loss) if unreached else estimated


def _with_measured(network: Network, estimated: LayerLosses, layers: list[int], loss: Loss) -> LayerLosses:
    """Estimated losses with those of some layers measured."""
    measured = measured_losses(network, layers, loss=loss)
    losses = estimated.losses.copy()
    losses[layers] = measured.losses
    names = ", ".join(network.priced.layers[layer].name for layer in layers[:NAMES_AT_MOST])
    more = f" and {len(layers) - NAMES_AT_MOST} more" if len(layers) > NAMES_AT_MOST else ""
    warning = f"no gradient reaches {names}{more}: their sensitivities are measured, not estimated"
    return LayerLosses(losses, estimated.forward_images + measured.forward_images, (warning,))


@dataclass(slots=True)
class _Taken:
    """A call of a layer in the float network."""

    layer: int
    call: Call
    probe: Tensor
    """Zeros, added to the output; their gradient is the output's, whatever is later written into it in place."""
    eps: float | None = None
    """That of the batch norm that reads the output; None where none does."""


def _gradients(
    model: QuantizedModel, inputs: Tensor, loss: Loss, generator: Generator
) -> tuple[Tensor, Iterator[tuple[_Taken, Tensor]]]:
    """Logits, and every call of a layer with the gradient of a random direction with respect to its output."""
    calls: list[_Taken] = []
    call_of: MutableMapping[Tensor, _Taken] = WeakIdKeyDictionary()

    def answer(layer: int, call: Call) -> Tensor:
        constants = {key: value.detach() for key, value in call.arguments.items() if isinstance(value, Tensor)}
        # A copy, as what follows may write into the input in place.
        kept = replace(call, arguments={**call.arguments, **constants, "input": call.input.detach().clone()})
        output = call.run(call.input, constants["weight"])
        calls.append(_Taken(layer, kept, torch.zeros_like(output, requires_grad=True)))
        answered = output + calls[-1].probe
        call_of[answered] = calls[-1]
        return answered

    def normalize(_: NormCall, arguments: Mapping[str, Any]) -> Tensor:
        if arguments["input"] in call_of:
            call_of[arguments["input"]].eps = arguments["eps"]
        return F.batch_norm(**arguments)

    try:
        with torch.enable_grad():
            outputs = run_network(model.model, inputs, LayerCalls(model.index, answer, normalize))
            logits = outputs.float().flatten(1)
            moved = (logits * _directions(logits.detach(), loss, generator)).sum()
        gradients = _of_probes(moved, [each.probe for each in calls])
    except RuntimeError as error:
        raise BackwardError(one_line(error)) from error
    return logits.detach(), zip(calls, gradients, strict=True)


def _of_probes(moved: Tensor, probes: list[Tensor]) -> tuple[Tensor, ...]:
    """The gradients of a scalar with respect to probes; zeros where none arrives."""
    if not moved.requires_grad:
        return tuple(map(torch.zeros_like, probes))
    return torch.autograd.grad(moved, probes, materialize_grads=True)


def _directions(logits: Tensor, loss: Loss, generator: Generator) -> Tensor:
    """A random direction [n, classes] for every image, with the covariance of the Fisher information."""
    signs = torch.randint(0, 2, logits.shape, generator=generator).to(logits) * 2 - 1
    if loss == "noise":
        return centred(signs)
    root = logits.softmax(dim=1).sqrt()
    return root * signs - root.square() * (root * signs).sum(dim=1, keepdim=True)


@torch.no_grad()
def _slopes(model: QuantizedModel, taken: _Taken, gradient: Tensor, *, images: int, is_corrected: bool) -> FloatArray:
    """[image, part, bits - 1]"""
    call, quantizers = taken.call, model.quantizers
    output = call.run(call.input, call.weight)

    def slope(changed: Tensor) -> Tensor:
        answered = _corrected(taken, changed, output) if is_corrected else changed
        return _by_image((answered - output) * gradient, images)

    weights = [slope(call.run(call.input, quantizers.weight(taken.layer, bits))) for bits in ALL_BITS]
    inputs = [slope(call.run(quantizers.input(call.input, taken.layer, bits), call.weight)) for bits in ALL_BITS]
    found: FloatArray = torch.stack([*weights, *inputs]).double().numpy(force=True)
    return found.reshape(2, len(ALL_BITS), -1).transpose(2, 0, 1)


def _corrected(taken: _Taken, changed: Tensor, output: Tensor) -> Tensor:
    """A changed output as corrections bring it back: to the mean of every channel, before a batch norm to its variance.

    See `haq.quantization.corrections`, which leaves recurrent layers as they are.
    """
    if taken.call.operation.kind == "recurrent":
        return changed
    channels = output.ndim - 1 - taken.call.operation.spatial_dims
    dims = [dim for dim in range(output.ndim) if dim != channels]
    (variance, mean), (wanted, target) = (
        torch.var_mean(each, dim=dims, correction=0, keepdim=True) for each in (changed, output)
    )
    gain = 1.0 if taken.eps is None else ((wanted + taken.eps) / (variance + taken.eps)).sqrt()
    return (changed - mean) * gain + target


def _by_image(products: Tensor, images: int) -> Tensor:
    """The sum [image] over what belongs to each image; where images are not in front, equal shares of the whole.

    Directions of different images are independent, so that the square of a sum is, on average, the sum of squares.
    """
    if len(products) % images == 0:
        return products.reshape(images, -1).sum(dim=1)
    return (products.sum() / math.sqrt(images)).expand(images)

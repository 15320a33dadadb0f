"""Losses of quantizing each layer alone, estimated from one backward pass over a few images.

To second order, the loss of a changed network is c E[(g . d)^2]. Here d is the change of a layer's output, and g is the
gradient w.r.t. that output of a random linear combination of the logits, drawn with the covariance of the Fisher
information of the outputs (Martens 2020, arXiv 1412.1193; for quantization FIT, Zandonati et al. 2022, arXiv
2210.08502). For the KL divergence this is the information of a softmax, diag(p) - p p^T, and c is 1/2. For the relative
output error it is that of a Gaussian, the same for all outputs.

The usual random direction is 1_y - p for a label y drawn from p. A confident network almost always draws the same label
with a gradient close to zero, so that most images contribute nothing. Instead every class gets a random sign s, as in
Hutchinson's estimator: z = sqrt(p) s - p (sqrt(p) . s) has the same covariance and uses every image. For the output
error, z is s minus its mean.

The information is that of a layer's whole output for each image, not its diagonal, as rounding changes many values
together. The part of a change that corrections undo (`haq.quantization.corrections`) does not count.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Generator, Tensor
from torch.utils.weak import WeakIdKeyDictionary

from haq.execution.networks import NetworkGuard, run_network
from haq.execution.structures import Structure, item_count, rows, take, to_device
from haq.execution.user_code import one_line
from haq.experiment.prior.layer_losses import FloatArray, LayerLosses, LossKind
from haq.experiment.prior.measured import PRIOR_IMAGES, measured_losses
from haq.experiment.problem import Network
from haq.network.layer_calls import LayerCalls, NormCall
from haq.network.tracing.weighted_calls import Call
from haq.quantization.corrections import UNCORRECTED_KINDS
from haq.quantization.moments import channel_moments
from haq.quantization.quantized_model import QuantizedModel
from haq.quantization.range import ALL_BITS
from haq.tasks.base import Task
from haq.tasks.distances import centred, power
from haq.tasks.optional import DistributionTask, ValuedTask

IMAGES_AT_ONCE = 32
"""Images whose activations are held in memory at once, with their gradients."""
NAMES_AT_MOST = 3
"""Layers that a warning names."""
BACKWARD_FORWARDS = 2
"""Forward passes that a backward pass counts as."""


@dataclass(frozen=True, slots=True)
class OutputReader:
    """Function that returns the values of outputs whose information is estimated.

    Attributes:
        read: Function from the outputs for n items to values [n, ...].
        is_logits: Whether the values are logits [n, classes] of a distribution. The information of plain values is that
            of a Gaussian of unit variance.
    """

    read: Callable[[Structure], Tensor] = rows
    is_logits: bool = True


LOGITS = OutputReader()
"""Reader of outputs that are logits, of all tensors together."""


class BackwardError(Exception):
    """Network that raises an error while gradients are recorded or computed; the message is one line."""


def fisher_sensitivity(
    model: QuantizedModel,
    batches: Iterable[Structure],
    *,
    loss: LossKind,
    is_corrected: bool,
    generator: Generator,
    outputs: OutputReader = LOGITS,
) -> LayerLosses:
    """Estimate the losses of all layers at all widths.

    Args:
        model: The network with its quantizers.
        batches: Inputs; a few dozen images are enough.
        loss: Which loss.
        is_corrected: Whether policies are evaluated with corrections.
        generator: Source of the random directions.
        outputs: Which values of the outputs count.

    Returns:
        The losses. An image counts as one forward pass, two for the backward pass, and one for every width of weights
        and input.

    Raises:
        BackwardError: The network raises an error while gradients are recorded or computed.
    """
    layers, images, scale = len(model.index.layers), 0, 0.0
    squares = np.zeros((layers, 2, len(ALL_BITS)))
    for inputs in batches:
        count = item_count(inputs)
        found = np.zeros((count, layers, 2, len(ALL_BITS)))
        values, gradients = _gradients(model, inputs, Directions(loss, outputs, generator))
        for taken, gradient in gradients:
            with NetworkGuard():
                found[:, taken.layer] += _slopes(model, taken, gradient, images=count, is_corrected=is_corrected)
        squares += np.square(found).sum(axis=0)
        scale += 2 * len(values) if loss == "divergence" else _power(values, outputs)
        images += count
    return LayerLosses(squares / (scale or 1.0), images * (1 + BACKWARD_FORWARDS + 2 * len(ALL_BITS)))


def network_fisher(network: Network, *, loss: LossKind = "noise", seed: int = 0) -> LayerLosses:
    """Estimate the losses of all layers of a prepared network on the first calibration images.

    If no gradient reaches a layer, as under `torch.no_grad` or before a rounding, its losses are measured on the same
    number of images and a warning names it. If the network does not run with gradients, all losses are measured.

    Args:
        network: The prepared network.
        loss: Which loss.
        seed: Seed of the random directions.

    Returns:
        The losses.
    """
    model = QuantizedModel(network.priced.model, network.priced.trace, network.quantizers)
    device = next(network.priced.model.parameters()).device
    images = to_device(next(iter(network.task.batches("calibration", batch_size=PRIOR_IMAGES)))[0], device)
    starts = range(0, item_count(images), IMAGES_AT_ONCE)
    try:
        estimated = fisher_sensitivity(
            model,
            [take(images, slice(start, start + IMAGES_AT_ONCE)) for start in starts],
            loss=loss,
            is_corrected=network.engine.images_per_policy > 0,
            generator=Generator().manual_seed(seed),
            outputs=_output_reader(network.task),
        )
    except BackwardError as error:
        measured = measured_losses(network, range(len(model.index.layers)), loss=loss)
        return replace(measured, warnings=(f"sensitivities are measured, as the network has no gradients: {error}",))
    unreached = [layer for layer, losses in enumerate(estimated.losses) if not losses.any()]
    return _with_measured(network, estimated, unreached, loss) if unreached else estimated


def _output_reader(task: Task) -> OutputReader:
    """Return which values of a task's outputs its distance compares."""
    if isinstance(task, DistributionTask):
        return OutputReader(task.logits)
    return OutputReader(task.values if isinstance(task, ValuedTask) else rows, is_logits=False)


def _with_measured(network: Network, estimated: LayerLosses, layers: list[int], loss: LossKind) -> LayerLosses:
    """Replace the estimated losses of some layers by measured ones."""
    measured = measured_losses(network, layers, loss=loss)
    losses = estimated.losses.copy()
    losses[layers] = measured.losses
    names = ", ".join(network.priced.layers[layer].name for layer in layers[:NAMES_AT_MOST])
    more = f" and {len(layers) - NAMES_AT_MOST} more" if len(layers) > NAMES_AT_MOST else ""
    warning = f"no gradient reaches {names}{more}: their sensitivities are measured, not estimated"
    return LayerLosses(losses, estimated.forward_images + measured.forward_images, (warning,))


@dataclass(frozen=True, slots=True)
class Directions:
    """Random directions in the outputs whose covariance is the Fisher information."""

    loss: LossKind
    outputs: OutputReader
    generator: Generator

    def values(self, outputs: Structure) -> Tensor:
        """Return the values whose Fisher information is estimated.

        Args:
            outputs: Outputs of the network for n items.

        Returns:
            Logits [n, classes], or all values of the outputs [n, values].
        """
        return self.outputs.read(outputs)

    def draw(self, values: Tensor) -> Tensor:
        """Draw a random direction for every image.

        Args:
            values: Result of `values`.

        Returns:
            Directions of the same shape.
        """
        signs = torch.randint(0, 2, values.shape, generator=self.generator).to(values) * 2 - 1
        if not self.outputs.is_logits:
            return signs
        if self.loss == "noise":
            return centred(signs)
        root = values.softmax(dim=1).sqrt()
        return root * signs - root.square() * (root * signs).sum(dim=1, keepdim=True)


def _power(values: Tensor, outputs: OutputReader) -> float:
    return (power(values) if outputs.is_logits else values.square().sum(dtype=torch.float64)).item()


@dataclass(slots=True)
class _Taken:
    """Call of a layer in the float network.

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


def _gradients(
    model: QuantizedModel, inputs: Structure, directions: Directions
) -> tuple[Tensor, Iterator[tuple[_Taken, Tensor]]]:
    """Return output values [n, ...], and each layer call with the gradient of a random direction at its output."""
    calls: list[_Taken] = []
    call_of: MutableMapping[Tensor, _Taken] = WeakIdKeyDictionary()

    def answer(layer: int, call: Call) -> Tensor:
        constants = {key: value.detach() for key, value in call.arguments.items() if isinstance(value, Tensor)}
        # Copies, as what follows may write into activations in place.
        copies = {key: constants[key].clone() for key in (("input",) if call.has_weights else ("input", "weight"))}
        kept = replace(call, arguments={**call.arguments, **constants, **copies})
        output = call.run(call.input, constants["weight"] if call.has_weights else call.factor)
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
            values = directions.values(outputs)
            moved = (values * directions.draw(values.detach())).sum()
        gradients = _of_probes(moved, [each.probe for each in calls])
    except RuntimeError as error:
        raise BackwardError(one_line(error)) from error
    return values.detach(), zip(calls, gradients, strict=True)


def _of_probes(moved: Tensor, probes: list[Tensor]) -> tuple[Tensor, ...]:
    """Return the gradients of a scalar w.r.t. probes; zeros for probes that it does not depend on."""
    if not moved.requires_grad:
        return tuple(map(torch.zeros_like, probes))
    return torch.autograd.grad(moved, probes, materialize_grads=True)


@torch.no_grad()
def _slopes(model: QuantizedModel, taken: _Taken, gradient: Tensor, *, images: int, is_corrected: bool) -> FloatArray:
    """Return the directional changes g . d [image, part, bits - 1] of all quantizations of a call."""
    call, quantizers = taken.call, model.quantizers
    output = call.run(call.input, call.factor)

    def plain(changed: Tensor) -> Tensor:
        return _by_image((changed - output) * gradient, images)

    corrects = is_corrected and call.operation.kind not in UNCORRECTED_KINDS
    slope = _CorrectedSlope(taken, output, gradient, images=images) if corrects else plain
    weights = [slope(call.run(call.input, quantizers.factor(call, taken.layer, bits))) for bits in ALL_BITS]
    inputs = [slope(call.run(quantizers.input(call.input, taken.layer, bits), call.factor)) for bits in ALL_BITS]
    found: FloatArray = torch.stack([*weights, *inputs]).double().numpy(force=True)
    return found.reshape(2, len(ALL_BITS), -1).transpose(2, 0, 1)


class _CorrectedSlope:
    """Directional change of a corrected output.

    Corrections restore the mean of every channel, before a batch norm also its variance: an output y + d becomes
    (y + d - mean(y + d)) gain + mean(y), see `haq.quantization.corrections`. Its change is linear in the sums of d g,
    y g and g over each channel, of which only the first depends on the bits.

    Args:
        taken: Call of the layer.
        output: Its float output y.
        gradient: Gradient g of the random direction, in the shape of the output.
        images: Number of images.
    """

    def __init__(self, taken: _Taken, output: Tensor, gradient: Tensor, *, images: int) -> None:
        self._output, self._gradient, self._images, self._eps = output, gradient, images, taken.eps
        self._axis = output.ndim - 1 - taken.call.operation.spatial_dims
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

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

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Generator, Tensor
from torch.utils.weak import WeakIdKeyDictionary

from haq.execution.networks import run_network
from haq.execution.structures import Structure, item_count, rows, take, to_device
from haq.execution.user_code import one_line
from haq.experiment.prior.directions import LOGITS, Directions, OutputReader
from haq.experiment.prior.layer_losses import LayerLosses, LossKind
from haq.experiment.prior.measured import PRIOR_IMAGES, measured_losses
from haq.experiment.prior.slopes import ProbedCall, directional_changes
from haq.experiment.problem import Network
from haq.network.layer_calls import LayerCalls, NormCall
from haq.network.tracing.weighted_calls import Call
from haq.quantization.quantized_model import QuantizedModel
from haq.quantization.range import ALL_BITS
from haq.tasks.base import Task
from haq.tasks.distances import power
from haq.tasks.optional import DistributionTask, ValuedTask

IMAGES_AT_ONCE = 32
"""Images whose activations are held in memory at once, with their gradients."""
NAMES_AT_MOST = 3
"""Layers that a warning names."""
BACKWARD_FORWARDS = 2
"""Forward passes that a backward pass counts as."""


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
        for probed, gradient in gradients:
            changes = directional_changes(model, probed, gradient, images=count, is_corrected=is_corrected)
            found[:, probed.layer] += changes
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


def _power(values: Tensor, outputs: OutputReader) -> float:
    return (power(values) if outputs.is_logits else values.square().sum(dtype=torch.float64)).item()


def _gradients(
    model: QuantizedModel, inputs: Structure, directions: Directions
) -> tuple[Tensor, Iterator[tuple[ProbedCall, Tensor]]]:
    """Return output values [n, ...], and each layer call with the gradient of a random direction at its output."""
    calls: list[ProbedCall] = []
    call_of: MutableMapping[Tensor, ProbedCall] = WeakIdKeyDictionary()

    def answer(layer: int, call: Call) -> Tensor:
        constants = {key: value.detach() for key, value in call.arguments.items() if isinstance(value, Tensor)}
        # Copies, as what follows may write into activations in place.
        copies = {key: constants[key].clone() for key in (("input",) if call.has_weights else ("input", "weight"))}
        kept = replace(call, arguments={**call.arguments, **constants, **copies})
        output = call.run(call.input, constants["weight"] if call.has_weights else call.factor)
        calls.append(ProbedCall(layer, kept, torch.zeros_like(output, requires_grad=True)))
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

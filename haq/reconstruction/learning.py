"""The learning itself: every layer's output is to be what the float network gives, all layers at once."""

from collections.abc import Iterator, Mapping
from itertools import count, islice
from math import isfinite

import torch
from torch import Generator, Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from haq.errors import UserError
from haq.execution.networks import run_network
from haq.execution.progress import SILENT, Watcher
from haq.network.layer_calls import LayerCalls, LayerIndex
from haq.network.layers import Trace
from haq.network.tracing.weighted_calls import Call
from haq.quantization.training.oscillation import ramp
from haq.reconstruction.config import ReconstructionConfig
from haq.reconstruction.network import LearnedNetwork
from haq.tasks.base import Task

WARM_UP = 0.1
"""Of all steps, over which the rates rise: Adam's first steps are as long as the rates whatever the gradients."""


@torch.no_grad()
def output_spreads(model: nn.Module, trace: Trace, images: Tensor) -> dict[int, Tensor]:
    """The standard deviation [c_out] of every channel of every layer's output in float, by layer.

    Recurrent layers have none: a step's outputs are distributed otherwise than the next one's.
    """
    spreads: dict[int, Tensor] = {}

    def answer(layer: int, call: Call) -> Tensor:
        output = call.run(call.input, call.weight)
        if call.operation.kind != "recurrent":
            channels = output.float().movedim(output.ndim - 1 - call.operation.spatial_dims, 0).flatten(1)
            spreads[layer] = channels.std(dim=1, correction=0)
        return output

    run_network(model, images, LayerCalls(LayerIndex(model, trace.sites), answer))
    return spreads


class Reconstruction:
    """Learns step by step; errors of a layer are measured in the `spreads` [c_out] of its outputs in float."""

    def __init__(self, network: LearnedNetwork, spreads: Mapping[int, Tensor], *, config: ReconstructionConfig) -> None:
        energies = {layer: spread.square().mean() for layer, spread in spreads.items()}
        self._network, self._energies = network, {layer: energy for layer, energy in energies.items() if energy > 0}
        self._optimizer = _optimizer(network, config)
        self._schedule = LambdaLR(self._optimizer, lambda step: _rate((step + 0.5) / config.steps))
        self._config = config
        self._sizes: dict[int, float] = {}  # outputs of every layer for one item

    def learn(self, batches: Iterator[Tensor], watcher: Watcher = SILENT) -> None:
        """All steps, each on the next batch. Raises UserError for a loss that is NaN or infinite."""
        watcher.begin("step", self._config.steps)
        try:
            for step, inputs in enumerate(islice(batches, self._config.steps), start=1):
                watcher.step(step, f"loss {self._step(step, inputs):.4f}")
        finally:
            watcher.end()

    def _step(self, step: int, inputs: Tensor) -> float:
        """Learn from one batch; returns the loss before that."""
        loss = self.loss(inputs)
        if not isfinite(loss.item()):
            raise UserError(f"the loss became {loss.item()} in step {step}; lower --code-lr or --scale-lr")
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        self._optimizer.step()
        self._schedule.step()
        return loss.item()

    def loss(self, inputs: Tensor) -> Tensor:
        """The mean over layers of the squared error of outputs, relative to the energy of the float outputs.

        A layer that gets other items of a batch than in float, or another number of them in another batch, as an expert
        that items are routed to, has nothing to be compared with: from then on it learns from the layers behind it.
        """
        wanted: dict[int, Tensor] = {}
        errors: dict[int, Tensor] = {}

        def remember(layer: int, output: Tensor) -> None:
            size = output.numel() / len(inputs)
            if layer in self._energies and size == self._sizes.setdefault(layer, size):
                wanted[layer] = output.clone()  # the network may write into its own

        def compare(layer: int, output: Tensor) -> None:
            if layer in wanted and output.shape == wanted[layer].shape:
                errors[layer] = (output - wanted[layer]).square().mean() / self._energies[layer]

        self._network.float_outputs(inputs, remember)
        self._network(inputs, compare)
        self._energies = {layer: energy for layer, energy in self._energies.items() if layer in errors}
        if not errors:
            raise UserError("no layer of the network gets every item of a batch, so that none can be compared")
        loss = torch.stack(list(errors.values())).mean()
        if not loss.requires_grad:
            raise UserError(
                "no gradient reaches the layers of the network: it runs in torch.inference_mode; leave it out"
            )
        return loss


def calibration_batches(task: Task, *, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Calibration inputs for ever, in a new random order every time round; labels are not looked at."""
    generator = Generator().manual_seed(seed)
    size = min(batch_size, task.size("calibration"))
    for _ in count():
        for inputs, _ in task.shuffled("calibration", batch_size=size, generator=generator):
            if len(inputs) == size:
                # Convolutions on a CPU are faster so.
                yield inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs


def _rate(progress: float) -> float:
    return min(progress / WARM_UP, 1.0) * ramp(1.0, 0.0, progress)


def _optimizer(network: LearnedNetwork, config: ReconstructionConfig) -> Optimizer:
    rates = {"steps": config.code_lr, "log_gain": config.scale_lr, "moved": config.bias_lr}
    named = list(network.named_parameters())
    return Adam(
        {"params": [p for name, p in named if p.requires_grad and name.endswith(f".{kind}")], "lr": rate}
        for kind, rate in rates.items()
    )

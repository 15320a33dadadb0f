"""Learning of quantizers so that the outputs of all layers approach those of the float network."""

from collections.abc import Callable, Iterator, Mapping
from itertools import count, islice
from math import isfinite
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from haq.errors import UserError
from haq.execution.networks import run_network
from haq.execution.progress import SILENT, Watcher
from haq.execution.structures import Structure, item_count, map_tensors
from haq.network.layer_calls import LayerCalls, LayerIndex
from haq.network.layers import Trace
from haq.network.tracing.weighted_calls import Call
from haq.quantization.training.oscillation import ramp
from haq.reconstruction.config import ReconstructionConfig
from haq.reconstruction.network import LearnedNetwork
from haq.tasks.base import Task

WARM_UP = 0.1
"""Fraction of all steps in which the rates rise: the length of Adam's first steps does not depend on the gradients."""


@torch.no_grad()
def output_spreads(model: nn.Module, trace: Trace, images: Structure) -> dict[int, Tensor]:
    """Compute the standard deviation of every channel of every layer's output in float.

    Args:
        model: Float network.
        trace: Its layers.
        images: Inputs of n items.

    Returns:
        Deviations [c_out] by layer; none for recurrent layers, whose outputs are distributed differently step by step.
    """
    spreads: dict[int, Tensor] = {}

    def answer(layer: int, call: Call) -> Tensor:
        output = call.run(call.input, call.factor)
        if call.operation.kind != "recurrent":
            channels = output.float().movedim(output.ndim - 1 - call.operation.spatial_dims, 0).flatten(1)
            spreads[layer] = channels.std(dim=1, correction=0)
        return output

    run_network(model, images, LayerCalls(LayerIndex(model, trace.sites), answer))
    return spreads


class Reconstruction:
    """Gradient descent on the output errors of all layers.

    Args:
        network: Network whose quantizers learn.
        spreads: Standard deviations [c_out] of the outputs in float, by layer: the units of errors.
        config: Settings of learning.

    Attributes:
        steps: Number of steps so far.
    """

    def __init__(self, network: LearnedNetwork, spreads: Mapping[int, Tensor], *, config: ReconstructionConfig) -> None:
        energies = {layer: spread.square().mean() for layer, spread in spreads.items()}
        self._network, self._energies = network, {layer: energy for layer, energy in energies.items() if energy > 0}
        self._optimizer = _optimizer(network, config)
        self._schedule = LambdaLR(self._optimizer, lambda step: _rate((step + 0.5) / config.steps))
        self._config = config
        self._sizes: dict[int, float] = {}  # outputs of every layer for one item
        self.steps = 0

    def learn(
        self, batches: Iterator[Structure], watcher: Watcher = SILENT, *, after_step: Callable[[], bool] = lambda: True
    ) -> None:
        """Run the remaining steps, each on its batch.

        Args:
            batches: Inputs of n items each, from the first step on.
            watcher: Receives the steps.
            after_step: Called after each step; returns whether to go on.

        Raises:
            UserError: The loss is NaN or infinite.
        """
        watcher.begin("step", self._config.steps, done=self.steps)
        try:
            for inputs in islice(batches, self.steps, self._config.steps):
                loss = self._step(inputs)
                watcher.measured(self.steps, {"loss": loss})
                watcher.step(self.steps, f"loss {loss:.4f}")
                if not after_step():
                    break
        finally:
            watcher.end()

    def state_dict(self) -> dict[str, Any]:
        """Return the state that the next step depends on: tensors and plain values."""
        return {
            "steps": self.steps,
            "parameters": {name: each.detach() for name, each in self._network.named_parameters()},
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "sizes": self._sizes,
            "compared": sorted(self._energies),
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state of learning with the same network and settings.

        Args:
            state: Result of `state_dict`.
        """
        for name, parameter in self._network.named_parameters():
            parameter.copy_(state["parameters"][name])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._sizes = dict(state["sizes"])
        self._energies = {layer: self._energies[layer] for layer in state["compared"]}
        self.steps = state["steps"]

    def _step(self, inputs: Structure) -> float:
        """Train on one batch; return the loss before the step."""
        loss = self.loss(inputs)
        if not isfinite(loss.item()):
            raise UserError(f"the loss became {loss.item()} in step {self.steps + 1}; lower --code-lr or --scale-lr")
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        self._optimizer.step()
        self._schedule.step()
        self.steps += 1
        return loss.item()

    def loss(self, inputs: Structure) -> Tensor:
        """Compute the mean over layers of the squared error of outputs, relative to the energy of the float outputs.

        A layer that receives other items of a batch than in float, or another number of them in another batch, such as
        an expert that items are routed to, has no reference: its error is left out from then on, and only the errors of
        later layers train it.

        Args:
            inputs: Inputs of n items.

        Returns:
            The loss [], with gradient.

        Raises:
            UserError: No layer can be compared, or no gradient reaches the layers.
        """
        items = item_count(inputs)
        wanted: dict[int, Tensor] = {}
        errors: dict[int, Tensor] = {}

        def remember(layer: int, output: Tensor) -> None:
            size = output.numel() / items
            if layer in self._energies and size == self._sizes.setdefault(layer, size):
                wanted[layer] = output.clone()  # the network may overwrite its output

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


def calibration_batches(task: Task, *, batch_size: int, seed: int) -> Iterator[Structure]:
    """Yield batches of calibration inputs without end, in a new random order in every pass.

    Args:
        task: Data; labels are not used.
        batch_size: Number of inputs in a batch; all if there are fewer.
        seed: Seed of the order.

    Yields:
        Inputs of `batch_size` items.
    """
    generator = Generator().manual_seed(seed)
    size = min(batch_size, task.size("calibration"))
    for _ in count():
        for inputs, _ in task.shuffled("calibration", batch_size=size, generator=generator):
            if item_count(inputs) == size:
                yield map_tensors(_channels_last, inputs)


def _channels_last(x: Tensor) -> Tensor:
    """Arrange images as convolutions on a CPU are fastest; other tensors stay as they are."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def _rate(progress: float) -> float:
    return min(progress / WARM_UP, 1.0) * ramp(1.0, 0.0, progress)


def _optimizer(network: LearnedNetwork, config: ReconstructionConfig) -> Optimizer:
    rates = {"steps": config.code_lr, "log_gain": config.scale_lr, "moved": config.bias_lr}
    named = list(network.named_parameters())
    return Adam(
        {"params": [p for name, p in named if p.requires_grad and name.endswith(f".{kind}")], "lr": rate}
        for kind, rate in rates.items()
    )

"""One step of learning after another, from batches that somebody hands over."""

from collections.abc import Mapping
from math import isfinite
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from haq.errors import UserError
from haq.execution.networks import run_network, switch_to_eval
from haq.execution.structures import Structure, device_of, item_count, map_tensors, spread
from haq.quantization.training.averaging import MovingAverage
from haq.quantization.training.config import FinetuneConfig
from haq.quantization.training.network import TrainableNetwork
from haq.quantization.training.optimizers import make_optimizers
from haq.quantization.training.oscillation import Freezer, dampening, ramp
from haq.quantization.training.ranks import ALONE, Ranks
from haq.quantization.training.recipe import Rates, clip_gradients
from haq.tasks.distances import Distance

SHIFTS_SETTLE = 0.5
"""From this part of the steps on zero points stay; a shift's cosine has led it over four fifths of its way by then."""


class Criterion(Protocol):
    """Loss, and distance from a teacher's outputs; every `haq.tasks.base.Task` is one."""

    def loss(self, outputs: Structure, targets: Structure) -> Tensor:
        """Return the mean loss over the batch."""
        ...

    def distance(self, outputs: Structure, reference: Structure) -> Distance:
        """Return the distance of outputs from reference outputs, summed over the batch."""
        ...


class DivergedError(UserError):
    """A loss that is no number."""


class Learner:
    """Optimizer, schedule, teacher, oscillation control and average of one network, over a known number of steps.

    `teacher` is the float network; None, or a teacher that the configuration does not want, learns from the task alone.
    """

    def __init__(
        self,
        network: TrainableNetwork,
        criterion: Criterion,
        *,
        config: FinetuneConfig,
        rates: Rates,
        total_steps: int,
        teacher: nn.Module | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.network, self._criterion, self._config = network, criterion, config
        self._teacher = teacher if config.teacher else None
        network.model.requires_grad_(config.learn == "all")
        self._optimizers = make_optimizers(network, config, rates)
        self._first_rates = [group["lr"] for group in self._groups]
        self._average = MovingAverage(network, config.ema) if config.ema else None
        self.freezer = Freezer(network) if config.oscillation == "freeze" else None
        self._runner = ranks.wrap(network)
        self.total_steps, self.steps = total_steps, 0

    def step(self, inputs: Structure, targets: Structure) -> tuple[Structure, float]:
        """Learn from one batch; returns outputs and loss. Raises DivergedError for a loss that is NaN or infinite."""
        progress = self.steps / self.total_steps
        for group, first in zip(self._groups, self._first_rates, strict=True):
            group["lr"] = first * ramp(1.0, 0.0, progress)
        outputs, loss = self._forward(inputs, targets)
        if not loss.requires_grad:
            raise UserError(
                "no gradient reaches the weights: the network runs in torch.no_grad or inference_mode; leave it out"
            )
        value = loss.item()
        if not isfinite(value):
            raise DivergedError(f"the loss became {value} in step {self.steps + 1}; lower --lr or --scale-lr")
        if self._config.oscillation == "dampen":
            loss = loss + ramp(0.0, self._config.dampening, progress) * dampening(self.network)
        for optimizer in self._optimizers.values():
            optimizer.zero_grad()
        torch.autograd.backward(loss)
        clip_gradients(self.network.parameters(), self._config.max_gradient_norm)
        for optimizer in self._optimizers.values():
            optimizer.step()
        if progress >= SHIFTS_SETTLE:
            for _, quantizer in self.network.quantizers():
                quantizer.round_shift()
        if self.freezer:
            self.freezer.step(progress)
        if self._average:
            self._average.update()
        self.steps += 1
        return map_tensors(torch.detach, outputs), value

    def finish(self) -> None:
        """The average in place of the last step's values; the network is in eval mode then."""
        if self._average:
            self._average.apply()
        switch_to_eval(self.network)

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on."""
        states = {name: part.state_dict() for name, part in self._parts.items()}
        return {"steps": self.steps, "network": self.network.state_dict(), **states}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.steps = state["steps"]
        self.network.load_state_dict(state["network"])
        for name, part in self._parts.items():
            part.load_state_dict(state[name])

    @property
    def _parts(self) -> dict[str, Any]:
        parts = {"average": self._average, "freezer": self.freezer, **self._optimizers}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self._optimizers.values() for group in optimizer.param_groups]

    def _forward(self, inputs: Structure, targets: Structure) -> tuple[Structure, Tensor]:
        positional, named = spread(inputs)
        is_bfloat16 = self._config.precision == "bfloat16"
        with torch.autocast(device_of(inputs).type, torch.bfloat16, enabled=is_bfloat16):
            outputs = self._runner(*positional, **named)
            with torch.no_grad():
                taught = None if self._teacher is None else run_network(self._teacher, inputs)
        outputs = map_tensors(_in_float32, outputs)
        loss = self._criterion.loss(outputs, targets)
        if taught is None:
            return outputs, loss
        distillation = self._criterion.distance(outputs, taught).divergence / item_count(inputs)
        return outputs, torch.lerp(loss, distillation, self._config.teacher_weight)


def _in_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor

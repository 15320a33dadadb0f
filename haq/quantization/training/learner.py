"""Training steps: forward pass, loss, gradients and updates for one batch at a time."""

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
from haq.tasks.carried_state import CarriedState
from haq.tasks.distances import Distance

SHIFTS_SETTLE = 0.5
"""Share of the steps after which shifts are rounded to whole codes; four fifths of the summed learning rates lie
before.
"""


class Criterion(Protocol):
    """Loss, and distance from a teacher's outputs; every `haq.tasks.base.Task` implements this protocol."""

    def loss(self, outputs: Structure, targets: Structure) -> Tensor:
        """Compute the loss of a batch.

        Args:
            outputs: Outputs of the network for n items; float tensors are float32.
            targets: Targets of the same n items.

        Returns:
            The mean over the batch, [], differentiable with respect to the outputs.
        """
        ...

    def distance(self, outputs: Structure, reference: Structure) -> Distance:
        """Compute the distance of outputs from reference outputs.

        Args:
            outputs: Outputs of the network for n items; float tensors are float32.
            reference: Outputs of the teacher for the same n items, in the same structure.

        Returns:
            The distance, summed over the batch; its divergence is differentiable with respect to the outputs.
        """
        ...


class DivergedError(UserError):
    """Error: the training loss is NaN or infinite."""


class Learner:
    """Optimizers, schedule, distillation, oscillation control and moving average of one network.

    Args:
        network: Network to train.
        criterion: Loss and distance from the teacher's outputs.
        config: Settings of fine-tuning.
        rates: Learning rates and weight decay at the first step.
        total_steps: Number of steps of the schedule.
        teacher: Float network for distillation; None, or `config.teacher` false, for none.
        ranks: Processes that average their gradients.

    Attributes:
        network: Network to train.
        freezer: Freezing of oscillating weights; None if it is not configured.
        total_steps: Number of steps of the schedule.
        steps: Number of completed steps.

    Raises:
        UserError: The configuration leaves nothing to train.
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
        self._ranks, self._runner = ranks, ranks.wrap(network)
        self.begin_epoch()
        self.total_steps, self.steps = total_steps, 0

    def begin_epoch(self) -> None:
        """Begin an epoch over the train split: the next batch continues none before it."""
        self._carried: tuple[CarriedState, CarriedState] | None = None

    def step(self, inputs: Structure, targets: Structure) -> tuple[Structure, float]:
        """Train on one batch; a network with a state continues from that after the batch before, without its gradient.

        Args:
            inputs: Inputs of n items, on the device of the network.
            targets: Their targets, on the same device.

        Returns:
            Outputs of the network before the update, detached, and the loss, without the dampening term.

        Raises:
            DivergedError: The loss is NaN or infinite; no parameter was changed.
            UserError: The loss does not depend on trainable parameters, since the network disables gradients; or, in
                several processes, a parameter has no gradient.
        """
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
        self._ranks.require_gradients(self.network)
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
        """Replace the parameters by their moving average if there is one, and set the network to evaluation mode."""
        if self._average:
            self._average.apply()
        for _, quantizer in self.network.quantizers():
            quantizer.settle_scale()
        switch_to_eval(self.network)

    def state_dict(self) -> dict[str, Any]:
        """Return the state that the next step depends on."""
        states = {name: part.state_dict() for name, part in self._parts.items()}
        return {"steps": self.steps, "network": self.network.state_dict(), **states}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state.

        Args:
            state: Result of `state_dict`.
        """
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
        if self._carried is None:
            streams = item_count(inputs)
            ours, theirs = (CarriedState(self._criterion, "train", streams=streams) for _ in range(2))
            self._carried = ours, theirs
        ours, theirs = self._carried
        positional, named = spread(ours.enter(inputs))
        is_bfloat16 = self._config.precision == "bfloat16"
        with torch.autocast(device_of(inputs).type, torch.bfloat16, enabled=is_bfloat16):
            outputs = self._runner(*positional, **named)
            with torch.no_grad():
                reference = None if self._teacher is None else run_network(self._teacher, theirs.enter(inputs))
        outputs = map_tensors(_in_float32, outputs)
        ours.leave(outputs)
        loss = self._criterion.loss(outputs, targets)
        if reference is None:
            return outputs, loss
        theirs.leave(map_tensors(_in_float32, reference))
        distillation = self._criterion.distance(outputs, reference).divergence / item_count(inputs)
        return outputs, torch.lerp(loss, distillation, self._config.teacher_weight)


def _in_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor

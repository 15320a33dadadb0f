"""Optimizers of fine-tuning: SGD or AdamW for weights, Adam with relative steps for scales and shifts."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from haq.errors import UserError
from haq.quantization.training.config import FinetuneConfig
from haq.quantization.training.network import TrainableNetwork
from haq.quantization.training.recipe import Rates

FLOAT_SHIFT_STEPS = 0.2
"""Unit of the learning rate of float shifts, in steps of the grid. Chosen on held-out train images."""


def relative_adam(units: Sequence[tuple[Tensor, Tensor]], *, lr: float) -> Adam:
    """Create an Adam optimizer (Kingma and Ba 2015) whose steps are relative to a unit of each element.

    So one learning rate suits small and large scales, however gradients are scaled.

    Args:
        units: Every parameter with its units, above 0 and in the shape of the parameter.
        lr: Learning rate, in units.

    Returns:
        The optimizer.

    Examples:
        >>> parameter = torch.tensor([5.0, 5.0], requires_grad=True)
        >>> optimizer = relative_adam([(parameter, torch.tensor([1.0, 100.0]))], lr=0.01)
        >>> parameter.grad = torch.tensor([1e-4, -7.0])
        >>> optimizer.step()
        >>> [round(value, 3) for value in parameter.tolist()]
        [4.99, 6.0]
    """
    optimizer = Adam([parameter for parameter, _ in units], lr=lr, eps=1e-15)  # gradients of scales may be tiny

    @torch.no_grad()
    def into_units(*_: object) -> None:
        for parameter, unit in units:
            parameter.div_(unit)

    @torch.no_grad()
    def out_of_units(*_: object) -> None:
        for parameter, unit in units:
            parameter.mul_(unit)

    optimizer.register_step_pre_hook(into_units)
    optimizer.register_step_post_hook(out_of_units)
    return optimizer


def make_optimizers(network: TrainableNetwork, config: FinetuneConfig, rates: Rates) -> dict[str, Optimizer]:
    """Create the optimizers of all trainable parameters.

    With SGD, LSQ's gradients hardly change the scales and shifts of inputs; these are trained with Adam instead.

    Args:
        network: Network to train.
        config: Settings of fine-tuning.
        rates: Learning rates and weight decay.

    Returns:
        Optimizers by name: `weights`, which decays weights but not biases and norms, and `quantizers`.

    Raises:
        UserError: There is nothing to train.
    """
    found: dict[str, Optimizer] = {}
    if config.learn == "all":
        found["weights"] = _weight_optimizer(network.model, config, rates)
    units = list(_units(network))
    if units:
        found["quantizers"] = relative_adam(units, lr=rates.scale_lr)
    if not found:
        raise UserError("--learn quantizers: no layer is quantized, so nothing would learn; use --learn all")
    return found


def _units(network: TrainableNetwork) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield scales with their initial value as unit, integer shifts with half the range of codes, float ones with less.

    With one step as unit, an integer shift would be too slow: the scale moves the ends of the range by many codes at a
    time, and compensates for a wrong zero point, with a coarser grid, before the shift has moved by half a code. A
    float shift moves at once.
    """
    for _, quantizer in network.quantizers():
        assert quantizer.raw_scale is not None
        assert quantizer.start_scale is not None
        yield quantizer.raw_scale, quantizer.start_scale
        if quantizer.shift is not None:
            steps = FLOAT_SHIFT_STEPS if quantizer.shift_kind == "float" else quantizer.grid.steps
            yield quantizer.shift, quantizer.start_scale * steps


def _weight_optimizer(model: nn.Module, config: FinetuneConfig, rates: Rates) -> Optimizer:
    parameters = list(model.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [each for each in parameters if each.ndim > 1], "weight_decay": rates.weight_decay},
        {"params": [each for each in parameters if each.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "adamw":
        return AdamW(groups, lr=rates.lr)
    return SGD(groups, lr=rates.lr, momentum=0.9, nesterov=True)

"""What moves the parameters: SGD or AdamW the weights, Adam the scales and shifts in parts of their first scale."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from haq.errors import UserError
from haq.quantization.training.config import FinetuneConfig
from haq.quantization.training.network import TrainableNetwork
from haq.quantization.training.recipe import Rates


def relative_adam(units: Sequence[tuple[Tensor, Tensor]], *, lr: float) -> Adam:
    """Adam (Kingma and Ba 2015) whose steps are in units of each element's own.

    `units` gives every parameter with its units, above 0 and in the parameter's shape: so one rate suits small and
    large scales alike, however gradients are scaled.

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
    """The optimizers of what learns, by name: `weights` with decay for weights alone, and `quantizers`.

    LSQ's gradients under SGD leave the scales and shifts of inputs all but where they start; hence Adam for those.
    Raises UserError where nothing learns.
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
    """A scale learns in parts of its start, and a shift in parts of half the range of codes.

    In parts of one step a shift would be outrun: the scale moves the ends of the range by many codes at a time, and has
    made up for a wrong zero point, at the price of a coarser grid, before the shift has moved by half a code.
    """
    for _, quantizer in network.quantizers():
        assert quantizer.raw_scale is not None
        assert quantizer.start_scale is not None
        yield quantizer.raw_scale, quantizer.start_scale
        if quantizer.shift is not None:
            yield quantizer.shift, quantizer.start_scale * quantizer.grid.steps


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

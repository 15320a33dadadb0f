"""Re-estimation of batch norm statistics on the final network.

The running averages of training lag behind the changes of few-bit weights.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from haq.execution.networks import switch_to_eval
from haq.execution.structures import Structure, spread


@torch.no_grad()
def reestimate(network: nn.Module, batches: Iterable[Structure]) -> None:
    """Re-estimate running means and variances of all batch norms, with equal weight for each position.

    Every norm normalizes by the statistics of all inputs so far, not by those of the batch alone as in torch's
    `update_bn`: few-bit layers after it would otherwise be measured on inputs that do not occur in evaluation. For the
    same reason the network is in evaluation mode, and stays in it. Norms without running statistics are not changed.

    Args:
        network: Network.
        batches: Batches of inputs.
    """
    switch_to_eval(network)
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    hooks = [norm.register_forward_pre_hook(_Seen()) for norm in norms]
    try:
        for inputs in batches if norms else ():
            positional, named = spread(inputs)
            network(*positional, **named)
    finally:
        for hook in hooks:
            hook.remove()


class _Seen:
    """Hook that updates the running statistics of one norm before they are used."""

    def __init__(self) -> None:
        self._count = 0
        self._sums: tuple[Tensor, Tensor] | None = None

    def __call__(self, norm: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, _BatchNorm)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        channels = arguments[0].movedim(1, 0).flatten(1).double()
        sums = channels.sum(dim=1), channels.square().sum(dim=1)
        self._sums = sums if self._sums is None else (self._sums[0] + sums[0], self._sums[1] + sums[1])
        self._count += channels.shape[1]
        mean = self._sums[0] / self._count
        variance = (self._sums[1] / self._count - mean.square()).clamp(min=0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance * self._count / max(self._count - 1, 1))

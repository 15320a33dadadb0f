"""Batch norms re-estimated on the network as it ends up: what runs along with training lags behind few-bit weights."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def reestimate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Running means and variances of all batch norms from these inputs, each batch counted alike.

    Everything else is in eval mode meanwhile, unlike in torch's `update_bn`: dropped units and paths would spread the
    statistics. Leaves the network in eval mode; one without running statistics stays as it is.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    network.eval()
    if not norms:
        return
    momenta = {norm: norm.momentum for norm in norms}
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    try:
        for inputs in batches:
            network(inputs)
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        network.eval()

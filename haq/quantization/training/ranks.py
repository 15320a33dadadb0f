"""Data-parallel training in several processes, as `torchrun` starts them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from haq.errors import UserError
from haq.execution.structures import Structure, take

_VARIABLES = ("RANK", "MASTER_ADDR", "MASTER_PORT")
"""Variables of the environment that torchrun sets beside WORLD_SIZE."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """One process among those that train together.

    Attributes:
        rank: Number of this process, from 0.
        count: Number of processes.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process evaluates and writes files."""
        return self.rank == 0

    def share(self, batch: Structure) -> Structure:
        """Return this process' part of a batch.

        Args:
            batch: Items [n, ...].

        Returns:
            Every `count`-th item; the parts of all processes are disjoint and make up the batch.
        """
        return take(batch, slice(self.rank, None, self.count))

    def require_equal_shares(self, batch_size: int) -> None:
        """Require that all processes train on as many items, as their gradients are averaged with equal weights.

        Args:
            batch_size: Number of items of a batch.

        Raises:
            UserError: The number of items is not a multiple of the number of processes.
        """
        if batch_size % self.count:
            raise UserError(
                f"{self.count} processes cannot share batches of {batch_size} items equally; "
                f"give --batch-size as a multiple of {self.count}"
            )

    def barrier(self) -> None:
        """Wait until all processes have called this."""
        if self.count > 1:
            distributed.barrier()

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return a network whose gradients are averaged over all processes.

        Args:
            network: Network of this process.

        Returns:
            The network, wrapped if there are several processes.
        """
        return network if self.count == 1 else DistributedDataParallel(network)

    def require_gradients(self, network: nn.Module) -> None:
        """Require that a backward pass gave all trainable parameters a gradient, as several processes wait for all.

        Args:
            network: Network of this process.

        Raises:
            UserError: There are several processes, and a parameter has no gradient; it is named.
        """
        if self.count == 1:
            return
        for name, parameter in network.named_parameters():
            if parameter.requires_grad and parameter.grad is None:
                raise UserError(
                    f"{name} takes no part in the network's outputs, so that several processes cannot average its "
                    "gradient; fine-tune in one process"
                )


ALONE = Ranks()
"""The only process, for training without torchrun."""


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the process group that torchrun started, while the context is open.

    WORLD_SIZE, RANK and LOCAL_RANK are read from the environment. On GPUs every process takes that of its local rank.

    Args:
        device: "cpu" or "cuda".

    Yields:
        This process; `ALONE` where torchrun started none.

    Raises:
        UserError: The environment is incomplete, or this machine has fewer GPUs than processes.
    """
    count = _world_size()
    if count == 1:
        yield ALONE
        return
    if device == "cuda":
        _take_gpu(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield Ranks(distributed.get_rank(), count)
    finally:
        distributed.destroy_process_group()


def _world_size() -> int:
    text = os.environ.get("WORLD_SIZE", "1")
    missing = [name for name in _VARIABLES if name not in os.environ]
    if text == "1" or (text.isdecimal() and int(text) > 1 and not missing):
        return int(text)
    problem = f"{', '.join(missing)} is not set" if text.isdecimal() and missing else "it is no number of processes"
    raise UserError(f"WORLD_SIZE is {text!r} but {problem}; start several processes with torchrun, or unset it")


def _take_gpu(local_rank: int) -> None:
    gpus = torch.cuda.device_count()
    if local_rank >= gpus:
        raise UserError(
            f"this machine has {gpus} GPUs and torchrun started more processes; give --nproc-per-node {gpus}"
        )
    torch.cuda.set_device(local_rank)

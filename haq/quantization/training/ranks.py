"""Data-parallel training in several processes, as `torchrun` starts them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from haq.execution.structures import Structure, take


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
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield Ranks(distributed.get_rank(), count)
    finally:
        distributed.destroy_process_group()

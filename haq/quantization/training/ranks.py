"""Several processes that learn together, as `torchrun` starts them."""

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
    """Which of how many processes this is."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process evaluates and writes files."""
        return self.rank == 0

    def share(self, batch: Structure) -> Structure:
        """Return this process' part of a batch; the parts are disjoint and together the batch."""
        return take(batch, slice(self.rank, None, self.count))

    def meet(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            distributed.barrier()

    def together(self, network: nn.Module) -> nn.Module:
        """The network with its gradients averaged over all processes."""
        return network if self.count == 1 else DistributedDataParallel(network)


ALONE = Ranks()


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the other processes for as long as the context is open; alone where torchrun started none.

    WORLD_SIZE, RANK and LOCAL_RANK are torchrun's. On GPUs every process takes that of its local rank.
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

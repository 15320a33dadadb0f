"""A few items at a time."""

from collections.abc import Callable, Iterable
from math import prod

import torch
from torch import Tensor

INPUTS_AT_ONCE = 2**20
"""Input values that a network runs on at once on a CPU: 6 images of 224x224, 341 of 32x32. Activations of more do not
stay in the processor's caches, and the system hands out their memory anew every time."""


def in_pieces(network: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """What a network answers to inputs [n, ...] that it sees a few at a time.

    >>> in_pieces(torch.neg, torch.ones(3, 2**20)).shape
    torch.Size([3, 1048576])
    """
    items = items_at_once(inputs)
    if len(inputs) <= items:
        return network(inputs)
    return torch.cat([network(piece) for piece in torch.split(inputs, items)])


def items_at_once(inputs: Tensor, values: int = INPUTS_AT_ONCE) -> int:
    """How many items like those of inputs [n, ...] have so many values together, at least one.

    >>> items_at_once(torch.ones(1, 3, 224, 224))
    6
    """
    return max(values // max(prod(inputs.shape[1:]), 1), 1)


def piece_sizes(inputs: Tensor, batches: Iterable[int]) -> list[int]:
    """The sizes of all pieces that batches of so many items like those of inputs [n, ...] are run in.

    >>> piece_sizes(torch.ones(1, 3, 224, 224), [32, 10])
    [2, 4, 6]
    """
    items = items_at_once(inputs)
    return sorted({size for batch in batches for size in (min(batch, items), batch % items) if size})

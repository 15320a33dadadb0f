"""A few items at a time."""

from collections.abc import Callable
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
    items = max(INPUTS_AT_ONCE // max(prod(inputs.shape[1:]), 1), 1)
    if len(inputs) <= items:
        return network(inputs)
    return torch.cat([network(piece) for piece in torch.split(inputs, items)])

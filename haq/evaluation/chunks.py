"""Run a network on a few items at a time, as many as a processor's caches hold."""

from collections.abc import Callable, Iterable

from haq.execution.structures import Structure, concatenate, item_count, take, tensors

CHUNK_VALUES = 2**20
"""Input values that a network runs on at once on a CPU: 6 images of 224x224, 341 of 32x32. Activations of more do not
stay in the processor's caches, and the system hands out their memory anew every time."""


def in_chunks(network: Callable[[Structure], Structure], inputs: Structure) -> Structure:
    """Run a network on inputs chunk by chunk, and join the outputs.

    >>> import torch
    >>> in_chunks(torch.neg, torch.ones(3, 2**20)).shape
    torch.Size([3, 1048576])
    """
    size, count = chunk_size(inputs), item_count(inputs)
    if count <= size:
        return network(inputs)
    outputs = [network(take(inputs, slice(start, start + size))) for start in range(0, count, size)]
    return concatenate(outputs, [min(size, count - start) for start in range(0, count, size)])


def chunk_size(inputs: Structure, values: int = CHUNK_VALUES) -> int:
    """Return how many items like those of the inputs have so many values together, at least one.

    >>> import torch
    >>> chunk_size(torch.ones(1, 3, 224, 224))
    6
    """
    values_per_item = sum(tensor.numel() for tensor in tensors(inputs)) // max(item_count(inputs), 1)
    return max(values // max(values_per_item, 1), 1)


def part_sizes(count: int, size: int) -> list[int]:
    """Return the different sizes of the parts that `count` items are cut into: `size`, and what is left.

    >>> part_sizes(10, 4), part_sizes(3, 4)
    ([4, 2], [3])
    """
    return list(dict.fromkeys(part for part in (min(count, size), count % size) if part))


def chunk_sizes(inputs: Structure, batches: Iterable[int]) -> list[int]:
    """Return the sizes of all chunks of batches of so many items like those of the inputs.

    >>> import torch
    >>> chunk_sizes(torch.ones(1, 3, 224, 224), [32, 10])
    [2, 4, 6]
    """
    size = chunk_size(inputs)
    return sorted({part for batch in batches for part in part_sizes(batch, size)})

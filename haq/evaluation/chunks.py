"""Running of networks on a few items at a time, as many as fit into the caches of a processor."""

from collections.abc import Callable, Iterable

from haq.execution.structures import Structure, concatenate, item_count, take, tensors

CHUNK_VALUES = 2**20
"""Number of input values that a network runs on at once on a CPU: 6 images of 224x224, 341 of 32x32.

With more, activations do not fit into the processor's caches, and their memory is allocated anew for each layer.
"""


def in_chunks(network: Callable[[Structure], Structure], inputs: Structure) -> Structure:
    """Run a network on inputs chunk by chunk, and concatenate the outputs.

    Args:
        network: Function from inputs to outputs.
        inputs: Inputs of n items.

    Returns:
        Outputs for the n items.

    Examples:
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
    """Return the number of items of a chunk.

    Args:
        inputs: Inputs of items of the same size.
        values: Largest number of values in a chunk.

    Returns:
        The largest number of items with at most `values` values, at least 1.

    Examples:
        >>> import torch
        >>> chunk_size(torch.ones(1, 3, 224, 224))
        6
    """
    values_per_item = sum(tensor.numel() for tensor in tensors(inputs)) // max(item_count(inputs), 1)
    return max(values // max(values_per_item, 1), 1)


def part_sizes(count: int, size: int) -> list[int]:
    """Return the different sizes of the parts into which items are divided: `size`, and the remainder.

    Args:
        count: Number of items.
        size: Largest number of items in a part.

    Returns:
        One or two sizes; none without items.

    Examples:
        >>> part_sizes(10, 4), part_sizes(3, 4)
        ([4, 2], [3])
    """
    return list(dict.fromkeys(part for part in (min(count, size), count % size) if part))


def chunk_sizes(inputs: Structure, batches: Iterable[int]) -> list[int]:
    """Return the different sizes of the chunks of some batches.

    Args:
        inputs: Inputs of items of the same size as those in the batches.
        batches: Numbers of items of the batches.

    Returns:
        The sizes, ascending.

    Examples:
        >>> import torch
        >>> chunk_sizes(torch.ones(1, 3, 224, 224), [32, 10])
        [2, 4, 6]
    """
    size = chunk_size(inputs)
    return sorted({part for batch in batches for part in part_sizes(batch, size)})

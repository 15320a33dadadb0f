"""Inputs and outputs of networks: tensors, and nested tuples, lists and dicts of them.

Conventions, in inputs, targets and outputs alike:

- The first dimension of a tensor, also of one in a tuple or a dict, counts items.
- A list has one entry for each item, such as images of different sizes, or the detections in each image. A list of
  outputs whose entries are all tensors over all items, such as feature maps, is treated as a tuple.
- A network gets a tuple as positional arguments, a dict as keyword arguments, and anything else as its one argument.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from copy import copy
from typing import Any, Literal

import torch
from torch import Tensor

Structure = Any
"""A tensor, or a tuple, list or dict of structures; other values in it are passed on as they are."""
InputKind = Literal["images", "tokens"]
"""What a network reads, where its name or that of its data says so."""


def spread(inputs: Structure) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Convert inputs to the arguments of a network.

    Args:
        inputs: Inputs of a network.

    Returns:
        Positional and keyword arguments.

    Examples:
        >>> spread((1, 2)), spread({"x": 1}), spread([1, 2])
        (((1, 2), {}), ((), {'x': 1}), (([1, 2],), {}))
    """
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (inputs if isinstance(inputs, tuple) else (inputs,)), {}


def tensors(structure: Structure) -> Iterator[Tensor]:
    """Iterate over the tensors of a structure.

    Args:
        structure: Any structure.

    Yields:
        The tensors, in order.

    Examples:
        >>> len(list(tensors({"a": torch.zeros(1), "b": [torch.zeros(2), 3]})))
        2
    """
    if isinstance(structure, Tensor):
        yield structure
    elif isinstance(structure, Mapping | list | tuple):
        for item in structure.values() if isinstance(structure, Mapping) else structure:
            yield from tensors(item)


def map_tensors(function: Callable[[Tensor], Tensor], structure: Structure) -> Structure:
    """Apply a function to every tensor of a structure.

    Args:
        function: Function of one tensor.
        structure: Any structure, which is not changed.

    Returns:
        A new structure of the same types.

    Examples:
        >>> map_tensors(lambda x: x + 1, (torch.zeros(1), {"a": torch.ones(1)}))
        (tensor([1.]), {'a': tensor([2.])})
    """
    if isinstance(structure, Tensor):
        return function(structure)
    return _map_parts(lambda part: map_tensors(function, part), structure)


def rebuilt(structure: Structure, found: Iterable[Tensor]) -> Structure:
    """Replace the tensors of a structure by others.

    Args:
        structure: Any structure, which is not changed.
        found: The new tensors, in the order of `tensors`.

    Returns:
        A new structure of the same types.

    Examples:
        >>> rebuilt({"a": torch.zeros(1)}, [torch.ones(2)])
        {'a': tensor([1., 1.])}
    """
    remaining = iter(found)
    return map_tensors(lambda _: next(remaining), structure)


def to_device(structure: Structure, device: torch.device | str) -> Structure:
    """Move all tensors of a structure to a device.

    Args:
        structure: Any structure, which is not changed.
        device: Device.

    Returns:
        A new structure of the same types.
    """
    return map_tensors(lambda tensor: tensor.to(device), structure)


def device_of(structure: Structure) -> torch.device:
    """Return the device of the first tensor of a structure.

    Args:
        structure: Any structure.

    Returns:
        The device; the CPU if there is no tensor.
    """
    return next((tensor.device for tensor in tensors(structure)), torch.device("cpu"))


def item_count(inputs: Structure) -> int:
    """Count the items of a batch.

    Args:
        inputs: Batch.

    Returns:
        Number of items.

    Raises:
        ValueError: The structure holds neither a tensor nor a list.

    Examples:
        >>> item_count({"a": torch.zeros(3, 5), "b": torch.zeros(3)}), item_count([torch.zeros(3, 8, 8)])
        (3, 1)
    """
    if isinstance(inputs, Tensor | list):
        return len(inputs)
    for part in _parts(inputs):
        try:
            return item_count(part)
        except ValueError:
            continue
    raise ValueError(f"a {type(inputs).__name__} without tensors has no items")


def take(structure: Structure, items: slice | Tensor) -> Structure:
    """Select items of a batch.

    Args:
        structure: Batch.
        items: Slice, or numbers [n] of the items.

    Returns:
        The batch of these items.

    Examples:
        >>> take({"a": torch.arange(3)}, slice(2))
        {'a': tensor([0, 1])}
    """
    if isinstance(structure, Tensor):
        return structure[items]
    if isinstance(structure, list):
        return structure[items] if isinstance(items, slice) else [structure[place] for place in items.tolist()]
    return _map_parts(lambda part: take(part, items), structure)


def concatenate(batches: Sequence[Structure], counts: Sequence[int]) -> Structure:
    """Join the outputs for several batches.

    Args:
        batches: Outputs of each batch, all of one structure.
        counts: Number of items of each batch.

    Returns:
        The outputs for all items. Values other than tensors, and tensors without dimensions, are those of the first
        batch.

    Examples:
        >>> concatenate([(torch.zeros(2),), (torch.ones(1),)], [2, 1])
        (tensor([0., 0., 1.]),)
    """
    first = batches[0]
    if isinstance(first, Tensor):
        return torch.cat(list(batches)) if first.ndim else first
    if isinstance(first, list) and all(map(_is_by_item, batches, counts)):
        return [entry for batch in batches for entry in batch]
    if isinstance(first, Mapping):
        joined = {key: concatenate([batch[key] for batch in batches], counts) for key in first}
        return _mapping_like(first, joined)
    if isinstance(first, tuple | list):
        return _sequence_like(first, [concatenate(parts, counts) for parts in zip(*batches, strict=True)])
    return first


def describe(structure: Structure) -> str:
    """Describe a structure by the shapes of its tensors.

    Args:
        structure: Any structure.

    Returns:
        The description, for messages.

    Examples:
        >>> describe(torch.zeros(1, 3)), describe({"a": torch.zeros(2), "b": (torch.zeros(1),)})
        ('(1, 3)', '{a: (2,), b: ((1,),)}')
    """
    if isinstance(structure, Tensor):
        return str(tuple(structure.shape))
    if isinstance(structure, Mapping):
        return "{" + ", ".join(f"{key}: {describe(part)}" for key, part in structure.items()) + "}"
    if isinstance(structure, list):
        return f"[{', '.join(map(describe, structure))}]"
    if isinstance(structure, tuple):
        return f"({', '.join(map(describe, structure))}{',' if len(structure) == 1 else ''})"
    return type(structure).__name__


def rows(structure: Structure) -> Tensor:
    """Join all floating-point tensors of outputs into one matrix.

    Args:
        structure: Outputs for n items.

    Returns:
        Values, float32 [n, values].

    Examples:
        >>> rows((torch.zeros(2, 3), torch.ones(2))).shape
        torch.Size([2, 4])
    """
    parts = [tensor.float() for tensor in tensors(structure) if tensor.is_floating_point()]
    flat = [part.flatten(1) if part.ndim > 1 else part[:, None] for part in parts]
    return flat[0] if len(flat) == 1 else torch.cat(flat, dim=1)


def _is_by_item(entries: list[Any], count: int) -> bool:
    """Return whether a list of outputs has one entry for each item, rather than tensors over all items."""
    over_all = all(isinstance(entry, Tensor) and entry.ndim and len(entry) == count for entry in entries)
    return len(entries) == count and not over_all


def _parts(structure: Structure) -> Iterator[Structure]:
    if isinstance(structure, Mapping):
        yield from structure.values()
    elif isinstance(structure, tuple):
        yield from structure


def _map_parts(function: Callable[[Structure], Structure], structure: Structure) -> Structure:
    if isinstance(structure, Mapping):
        return _mapping_like(structure, {key: function(part) for key, part in structure.items()})
    if isinstance(structure, tuple | list):
        return _sequence_like(structure, [function(part) for part in structure])
    return structure


def _mapping_like(original: Mapping[Any, Any], items: dict[Any, Any]) -> Mapping[Any, Any]:
    """Return a mapping of the original's type with other items, which the type may also offer as attributes."""
    if type(original) is dict or not isinstance(original, MutableMapping):
        return items
    changed = copy(original)
    for key, item in items.items():
        changed[key] = item
    return changed


def _sequence_like(original: Sequence[Any], items: list[Any]) -> Sequence[Any]:
    if isinstance(original, tuple) and hasattr(original, "_fields"):
        return type(original)(*items)
    return tuple(items) if isinstance(original, tuple) else items

"""Unique names of layers: the path of the module that owns the weights, or of the parameter."""

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from math import prod

from haq.network.tracing.weighted_calls import WeightSlice


@dataclass(frozen=True, slots=True)
class LayerName:
    """Name of a layer, with a longer one in case another layer has the same.

    Attributes:
        short: Path of the owner and a shortened parameter name.
        full: Path of the owner and the full parameter name.

    Examples:
        >>> LayerName.of("attention", "in_proj_weight", "")
        LayerName(short='attention.in_proj', full='attention.in_proj_weight')
        >>> LayerName.of("conv", "weight", "")
        LayerName(short='conv', full='conv')
    """

    short: str
    full: str

    @classmethod
    def of(cls, path: str, leaf: str, part: str) -> "LayerName":
        """Build the name of a layer.

        Args:
            path: Path of the module that owns the parameter.
            leaf: Name of the parameter in that module.
            part: Index of the part that the layer uses; see `part_of`.

        Returns:
            The name.
        """
        if leaf == "weight":
            return cls(path + part, path + part)
        label = leaf.removesuffix("_weight").removeprefix("weight_")
        short, full = (".".join(each for each in (path, name) if each) for name in (label, leaf))
        return cls(short + part, full + part)


def unique_names(names: Sequence[LayerName]) -> list[str]:
    """Choose a unique name for each layer: the short one if no other layer has it.

    Args:
        names: Names of all layers.

    Returns:
        Unique names in the same order.

    Examples:
        >>> unique_names([LayerName("proj", "proj"), LayerName("proj", "proj_weight"), LayerName("fc", "fc")])
        ['proj', 'proj_weight', 'fc']
    """
    counts = Counter(name.short for name in names)
    found: dict[str, None] = {}
    for name in names:
        found[free_name(name.short if counts[name.short] == 1 else name.full, found)] = None
    return list(found)


def free_name(name: str, taken: Container[str]) -> str:
    """Return a name that is not taken, with a number appended if necessary.

    Args:
        name: Preferred name.
        taken: Names in use.

    Returns:
        The name.
    """
    number, found = 2, name
    while found in taken:
        found, number = f"{name}~{number}", number + 1
    return found


def part_of(shape: Sequence[int], weights: WeightSlice) -> str:
    """Return the part of a parameter that a layer multiplies with, as an index; empty for the whole parameter.

    Args:
        shape: Shape of the parameter.
        weights: Slice that the layer uses.

    Returns:
        The index in brackets.

    Examples:
        >>> part_of((12, 4), WeightSlice("w", 32, (4, 4))), part_of((2, 8, 4), WeightSlice("w", 32, (8, 4)))
        ('[8:12]', '[1]')
    """
    stored = weights.stored_shape
    if tuple(shape) == stored:
        return ""
    index: list[str] = []
    offset = weights.offset
    for axis in range(len(shape)):
        if axis and stored == tuple(shape[axis:]) and not offset:
            return f"[{']['.join(index)}]"
        size = prod(shape[axis + 1 :])
        first, rest = divmod(offset, size)
        if stored[1:] == tuple(shape[axis + 1 :]) and not rest:
            return f"[{']['.join([*index, f'{first}:{first + stored[0]}'])}]"
        index.append(str(first))
        offset = rest
    first = weights.offset // max(1, prod(shape[1:]))
    return f"[{first}:{first + stored[0]}]"

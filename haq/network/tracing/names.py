"""What layers are called: the path of the module that owns their weights, or of the parameter, each only once."""

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from math import prod

from haq.network.tracing.weighted_calls import WeightSlice


@dataclass(frozen=True, slots=True)
class LayerName:
    """A layer's name, and a longer one for where another layer has the same.

    >>> LayerName.of("attention", "in_proj_weight", "")
    LayerName(short='attention.in_proj', full='attention.in_proj_weight')
    >>> LayerName.of("conv", "weight", "")
    LayerName(short='conv', full='conv')
    """

    short: str
    full: str

    @classmethod
    def of(cls, path: str, leaf: str, part: str) -> "LayerName":
        """From the owner's path, the parameter's name there, and which part of it is used; see `part_of`."""
        if leaf == "weight":
            return cls(path + part, path + part)
        label = leaf.removesuffix("_weight").removeprefix("weight_")
        short, full = (".".join(each for each in (path, name) if each) for name in (label, leaf))
        return cls(short + part, full + part)


def unique_names(names: Sequence[LayerName]) -> list[str]:
    """A name for each, no two alike: the short one where no other has it.

    >>> unique_names([LayerName("proj", "proj"), LayerName("proj", "proj_weight"), LayerName("fc", "fc")])
    ['proj', 'proj_weight', 'fc']
    """
    counts = Counter(name.short for name in names)
    found: dict[str, None] = {}
    for name in names:
        found[free_name(name.short if counts[name.short] == 1 else name.full, found)] = None
    return list(found)


def free_name(name: str, taken: Container[str]) -> str:
    """A name that is not taken: with a number where it is."""
    number, found = 2, name
    while found in taken:
        found, number = f"{name}~{number}", number + 1
    return found


def part_of(shape: Sequence[int], weights: WeightSlice) -> str:
    """The part of a parameter that a layer multiplies with, as an index; nothing for the whole.

    >>> part_of((12, 4), WeightSlice("w", 32, (4, 4))), part_of((2, 8, 4), WeightSlice("w", 32, (8, 4)))
    ('[8:12]', '[1]')
    """
    if tuple(shape) == weights.shape:
        return ""
    index: list[str] = []
    offset = weights.offset
    for axis in range(len(shape)):
        if axis and weights.shape == tuple(shape[axis:]) and not offset:
            return f"[{']['.join(index)}]"
        size = prod(shape[axis + 1 :])
        first, rest = divmod(offset, size)
        if weights.shape[1:] == tuple(shape[axis + 1 :]) and not rest:
            return f"[{']['.join([*index, f'{first}:{first + weights.shape[0]}'])}]"
        index.append(str(first))
        offset = rest
    first = weights.offset // max(1, prod(shape[1:]))
    return f"[{first}:{first + weights.shape[0]}]"

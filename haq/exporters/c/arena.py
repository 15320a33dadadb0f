"""Plan of the memory of tensors: those that are needed at the same time never overlap."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ALIGNMENT = 4
"""Bytes to which buffers are aligned, those of int32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """Memory that is needed during some operations.

    Attributes:
        name: Name, unique in a plan.
        size: Bytes.
        first: Operation that writes it.
        last: Last operation that uses it.
    """

    name: str
    size: int
    first: int
    last: int

    def meets(self, other: "Buffer") -> bool:
        """Return whether both are needed during some operation.

        Args:
            other: Another buffer.

        Returns:
            True if their lifetimes overlap.
        """
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True)
class Plan:
    """Places of buffers in one block of memory.

    Attributes:
        offsets: First byte of each buffer.
        size: Bytes of the block.
    """

    offsets: Mapping[str, int]
    size: int


def plan_memory(buffers: Sequence[Buffer]) -> Plan:
    """Place buffers, the largest first, each at the lowest free offset.

    Args:
        buffers: Buffers with different names.

    Returns:
        The plan.

    Examples:
        >>> one, two = Buffer(name="a", size=8, first=0, last=1), Buffer(name="b", size=4, first=2, last=3)
        >>> plan_memory([one, two]).size
        8
    """
    offsets: dict[str, int] = {}
    placed: list[Buffer] = []
    for buffer in sorted(buffers, key=lambda each: (-each.size, each.first, each.name)):
        taken = sorted((offsets[each.name], each.size) for each in placed if each.meets(buffer))
        offsets[buffer.name] = _lowest_gap(taken, buffer.size)
        placed.append(buffer)
    end = max((offsets[each.name] + each.size for each in buffers), default=0)
    return Plan(offsets, _aligned(end))


def _lowest_gap(taken: Sequence[tuple[int, int]], size: int) -> int:
    """Return the lowest offset with room; `taken` are (offset, size) in the order of offsets."""
    start = 0
    for offset, length in taken:
        if start + size <= offset:
            break
        start = max(start, _aligned(offset + length))
    return start


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT

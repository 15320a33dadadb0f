"""Values of the policies that were used last, in memory of limited size."""

from collections import OrderedDict
from typing import Generic, TypeVar

from haq.policy import PolicyBits

Value = TypeVar("Value")


class PolicyMemory(Generic[Value]):
    """Mapping from policies to values that forgets the policy that was not used for longest.

    Its content follows from the order of `add` and `find` alone.

    Args:
        capacity: Maximum number of policies.

    Example:
        >>> memory = PolicyMemory[str](capacity=2)
        >>> for width in (8, 4, 2):
        ...     memory.add(((width,), (8,)), f"{width} bits")
        >>> memory.find(((8,), (8,))), memory.find(((4,), (8,)))
        (None, '4 bits')
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: OrderedDict[bytes, Value] = OrderedDict()

    def __contains__(self, bits: PolicyBits) -> bool:
        """Whether a policy has a value; does not count as a use."""
        return _key(bits) in self._values

    def find(self, bits: PolicyBits) -> Value | None:
        """Return the value of a policy.

        Args:
            bits: (w_bits, a_bits) of every layer.

        Returns:
            The value; None if there is none.
        """
        key = _key(bits)
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key]

    def add(self, bits: PolicyBits, value: Value) -> None:
        """Add or replace the value of a policy.

        Args:
            bits: (w_bits, a_bits) of every layer.
            value: Its value.
        """
        key = _key(bits)
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._capacity:
            self._values.popitem(last=False)


def _key(bits: PolicyBits) -> bytes:
    """Return one byte for each width, 0 for float: a tenth of the memory of the tuples."""
    return bytes([width or 0 for each in bits for width in each])

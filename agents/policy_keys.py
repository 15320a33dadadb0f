"""Policies as keys of dictionaries."""

import numpy as np

from agents.base import IntArray


def to_key(bits: IntArray) -> bytes:
    """Return a policy as bytes, one for each width, an eighth of the memory of the array.

    Args:
        bits: The policy, [decision, 2].

    Returns:
        The key.
    """
    return bits.astype(np.uint8).tobytes()


def from_key(key: bytes) -> IntArray:
    """Return the policy of a key.

    Args:
        key: Result of `to_key`.

    Returns:
        The policy, [decision, 2], a new array.

    Example:
        >>> from_key(to_key(np.array([[8, 2], [4, 3]]))).tolist()
        [[8, 2], [4, 3]]
    """
    return np.frombuffer(key, dtype=np.uint8).reshape(-1, 2).astype(np.int64)

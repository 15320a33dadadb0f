"""Weights as dense streams of bits: code i fills the bits from i * bits on, lowest bits first, in two's complement."""

import numpy as np
from numpy.typing import NDArray

from haq.exporters.integer.network import Codes, code_bits


def stored_bits(codes: Codes, bits: int) -> int:
    """Return the width at which weights are stored.

    Args:
        codes: Codes of the weights.
        bits: Bits of the policy.

    Returns:
        The bits of the policy; more where folding the sign of a batch norm made a code that does not fit, such as 8.
    """
    return max(bits, code_bits(codes))


def pack(codes: NDArray[np.int8], bits: int) -> bytes:
    """Pack codes into a stream.

    Args:
        codes: Codes that fit into `bits`, of one dimension.
        bits: Bits of a code, 1 to 8.

    Returns:
        The stream, ceil(count * bits / 8) bytes.

    Examples:
        >>> pack(np.array([1, -1, 3], dtype=np.int8), 3).hex()
        'f900'
    """
    lowest_first = np.unpackbits(codes.astype(np.uint8)[:, None], axis=1, bitorder="little")[:, :bits]
    return np.packbits(lowest_first.reshape(-1), bitorder="little").tobytes()

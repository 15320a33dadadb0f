"""Weights as dense streams of bits: code i fills the bits from i * bits on, lowest bits first, in two's complement."""

import numpy as np
from numpy.typing import NDArray

from haq.exporters.integer.network import Codes


def stored_bits(codes: Codes, bits: int) -> int:
    """Return the width at which weights are stored.

    Args:
        codes: Codes of the weights.
        bits: Bits of the policy.

    Returns:
        The bits of the policy; more where folding the sign of a batch norm made a code that does not fit, such as 8.
    """
    lowest, highest = int(codes.min(initial=0)), int(codes.max(initial=0))
    return max(bits, (max(highest, -lowest - 1)).bit_length() + 1)


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


def unpack(stream: bytes, bits: int, count: int) -> Codes:
    """Unpack a stream.

    Args:
        stream: Packed codes.
        bits: Bits of a code.
        count: Number of codes.

    Returns:
        The codes, int8 [count].
    """
    found = np.unpackbits(np.frombuffer(stream, np.uint8), bitorder="little")[: count * bits].reshape(count, bits)
    sign = found[:, -1:].repeat(8 - bits, axis=1)
    return np.packbits(np.concatenate([found, sign], axis=1), axis=1, bitorder="little").reshape(-1).view(np.int8)

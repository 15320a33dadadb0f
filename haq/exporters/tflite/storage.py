"""Packing of weights in TFLite files as int4, or as indices into a lookup table."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hardware_sim.weight_storage import INT4_BITS, TABLE_HEADER_BYTES, IntegerStorage

Bytes = NDArray[np.uint8]

DECODE_NAME = "TFLM_DECODE"
"""Custom operator that decodes lookup tables."""
STORED_BITS: Mapping[IntegerStorage, int] = {"int8": 8, "int4": INT4_BITS, "table": 8}
"""Bits of the weights that operators compute with."""
_ONE_TABLE = 15
"""Axis in the header of a table that all channels share."""


def pack_int4(codes: NDArray[np.int8]) -> Bytes:
    """Pack codes of 4 bits in two's complement, the first of two in the low half of a byte.

    Args:
        codes: Codes from -8 to 7, of any shape.

    Returns:
        The bytes, with a last half of zeros for odd numbers of codes.

    Examples:
        >>> pack_int4(np.array([1, -1, 2], np.int8)).tolist()
        [241, 2]
    """
    halves: Bytes = codes.reshape(-1).astype(np.uint8) & np.uint8(15)
    halves = np.append(halves, np.zeros(halves.size % 2, np.uint8))
    packed: Bytes = halves[0::2] | (halves[1::2] << np.uint8(4))
    return packed


def pack_indices(codes: NDArray[np.int8], w_bits: int) -> Bytes:
    """Pack codes as indices into the table of their width, without gaps, the highest bit first.

    Args:
        codes: Codes of `w_bits`, of any shape.
        w_bits: Bits of the codes, 1 to 7.

    Returns:
        The bytes.

    Examples:
        >>> pack_indices(np.array([-2, 1, 0, -1], np.int8), 2).tolist()
        [57]
    """
    indices = (codes.reshape(-1, 1).astype(np.int64) + 2 ** (w_bits - 1)).astype(np.uint8)
    return np.packbits(np.unpackbits(indices, axis=1)[:, 8 - w_bits :])


def lookup_table(w_bits: int, shift: int) -> Bytes:
    """Return the table of all codes of a width with its header.

    The channels of a layer have scales of their own, but their codes lie on the same grid: a distance of 0 between the
    tables of neighbouring channels makes them share one.

    Args:
        w_bits: Bits of the codes, 1 to 7.
        shift: Left shift of the codes in the table.

    Returns:
        The header of 16 bytes (type 0, version 1, table version 1, axis and bits, distance between tables) and the
        codes.
    """
    header = np.zeros(TABLE_HEADER_BYTES, np.uint8)
    header[[1, 4, 5]] = 1, 1, _ONE_TABLE << 4 | w_bits
    codes = np.arange(-(2 ** (w_bits - 1)), 2 ** (w_bits - 1), dtype=np.int8) << shift
    return np.concatenate([header, codes.astype(np.int8).view(np.uint8)])

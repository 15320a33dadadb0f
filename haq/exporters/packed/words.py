"""Dense packing of integer codes into words of 32 bits, as `pack-quantized` of compressed-tensors defines it.

Code number i of a row occupies bits i * bits to (i + 1) * bits - 1 of the row's words, lowest bit first, and is stored
as code + 2^(bits - 1). Rows end at whole words.
"""

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

WORD_BITS = 32
_CODES_AT_ONCE = 2**20
"""Bounds the memory of one step, at one byte for each bit; a multiple of 32, so that steps end at whole words."""

Codes = NDArray[np.int8]
Words = NDArray[np.int32]


def word_count(codes: int, bits: int) -> int:
    """Return the number of words that codes occupy.

    Args:
        codes: Number of codes.
        bits: Bits of a code.

    Returns:
        Number of words.

    Examples:
        >>> word_count(9, 3), word_count(11, 3)
        (1, 2)
    """
    return -(-codes * bits // WORD_BITS)


def row_shape(shape: Sequence[int], bits: int) -> tuple[int, int]:
    """Return the two-dimensional shape in which codes are packed.

    Channels are rows if they end at whole words, as in compressed-tensors; else all codes are one row, so that only the
    last word of a tensor is padded.

    Args:
        shape: Shape of the weights.
        bits: Bits of a code.

    Returns:
        Rows and columns.

    Examples:
        >>> row_shape((64, 32, 3, 3), 4), row_shape((64, 1, 3, 3), 3)
        ((64, 288), (1, 576))
    """
    columns = prod(shape[1:])
    return (shape[0], columns) if columns * bits % WORD_BITS == 0 else (1, prod(shape))


def pack(codes: Codes, bits: int) -> Words:
    """Pack codes into words.

    Args:
        codes: Codes of -2^(bits - 1) to 2^(bits - 1) - 1, in any shape.
        bits: Bits of a code, 1 to 8.

    Returns:
        Words [rows, words of a row], where `row_shape` gives the rows.

    Examples:
        >>> pack(np.array([[-1, 1, 0]], np.int8), 4).tolist()  # 7, 9 and 8 in hexadecimal digits, lowest first
        [[2199]]
    """
    stored = (codes.astype(np.int16).ravel() + (1 << bits - 1)).astype(np.uint8)
    steps = range(0, len(stored), _CODES_AT_ONCE)
    words = np.concatenate([_pack(stored[start : start + _CODES_AT_ONCE], bits) for start in steps])
    return words.reshape(row_shape(codes.shape, bits)[0], -1)


def unpack(words: Words, bits: int, shape: Sequence[int]) -> Codes:
    """Unpack the codes of a tensor.

    Args:
        words: Result of `pack`.
        bits: Bits of a code, 1 to 8.
        shape: Shape of the weights.

    Returns:
        The codes.

    Examples:
        >>> unpack(np.array([[2199]], np.int32), 4, (1, 3)).tolist()
        [[-1, 1, 0]]
    """
    count, flat = prod(shape), words.ravel()
    codes = np.empty(count, np.int8)
    for start in range(0, count, _CODES_AT_ONCE):
        first, size = start * bits // WORD_BITS, min(_CODES_AT_ONCE, count - start)
        stored = _unpack(flat[first : first + word_count(size, bits)], bits, size)
        codes[start : start + size] = stored.astype(np.int16) - (1 << bits - 1)
    return codes.reshape(shape)


def _pack(stored: NDArray[np.uint8], bits: int) -> Words:
    """Pack unsigned codes [n] into words [m]."""
    stream = np.unpackbits(stored[:, None], axis=1, count=bits, bitorder="little").ravel()
    packed = np.zeros(word_count(len(stored), bits) * WORD_BITS // 8, np.uint8)
    packed[: -(-len(stream) // 8)] = np.packbits(stream, bitorder="little")
    return packed.view("<i4").astype(np.int32, copy=False)


def _unpack(words: Words, bits: int, count: int) -> NDArray[np.uint8]:
    """Unpack unsigned codes [count] from words [m]."""
    stream = words.astype("<i4", copy=False).view(np.uint8)
    rows = np.unpackbits(stream, count=count * bits, bitorder="little").reshape(count, bits)
    weights = (1 << np.arange(bits)).astype(np.uint8)
    return np.asarray(rows @ weights, np.uint8)

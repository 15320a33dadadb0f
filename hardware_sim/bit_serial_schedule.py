"""Cycles of a bit-serial matrix product in closed form: in-order execution with two prefetching read ports.

The left operand of a product is the weights: rows of `w_bits` bit planes, which arrive over the left port. The right
operand is the activations: columns of `a_bits` bit planes, which arrive over the right port. Both are divided into
words of `dot_bits` along the common dimension, the depth, and into tiles of `size` lines along rows or columns. In a
loop order one operand is the inner one, whose tiles change faster, and the other the outer; both orders are computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np

from hardware_sim.cost import IntArray
from hardware_sim.integers import INTEGER_BITS, ceil_div
from hardware_sim.lowering import Product


class ProductCost(NamedTuple):
    """Cost of products, arrays [product, w_bits, a_bits]."""

    cycles: IntArray
    """All cycles, with those in which the array waits for operands."""
    compute_cycles: IntArray
    """Cycles in which the array is busy."""
    left_beats: IntArray
    """Cycles in which the port of the weights is busy."""
    right_beats: IntArray
    """Cycles in which the port of the activations is busy."""


@dataclass(frozen=True, slots=True)
class BinaryArray:
    """Array of `size` x `size` dot products of `dot_bits` binary MACs, with a read port and a buffer per operand."""

    size: int
    dot_bits: int
    port_bits: int
    buffer_words: int


class _Side(NamedTuple):
    """One operand of a block: its number of rows or columns (lines), and its number of bit planes."""

    lines: IntArray
    bits: IntArray


class _Depth(NamedTuple):
    """The common dimension in words of `dot_bits`; the last word takes `last` beats on a port, the others `full`."""

    words: IntArray
    full: int
    last: IntArray

    @property
    def beats(self) -> IntArray:
        """Beats of one line of one bit plane."""
        return self.full * (self.words - 1) + self.last


class _Steps(NamedTuple):
    """Cycles between the first uses of neighbouring tiles, words and bit planes of one operand."""

    tile: IntArray
    word: IntArray
    plane: IntArray | int


def price_products(array: BinaryArray, products: Sequence[Product]) -> ProductCost:
    """Compute cycles and port traffic of products at every pair of integer widths.

    The words of an operand stay on chip, so rows and columns are cut into blocks that fit the buffers; blocks run one
    after the other, and each fetches both of its operands. The loop order with fewer cycles is used.

    Args:
        array: The array.
        products: Matrix products; all repeats are counted.

    Returns:
        Cost of each product, arrays [product, 8, 8].
    """
    numbers = np.array(products, dtype=np.int64).reshape(-1, 4, 1, 1)
    repeats, rows, columns, common = numbers.swapaxes(0, 1)
    w_bits, a_bits = INTEGER_BITS[:, None], INTEGER_BITS[None, :]
    depth = _depth(array, common)
    row_blocks = _blocks(array, _Side(rows, w_bits), depth)
    column_blocks = _blocks(array, _Side(columns, a_bits), depth)
    orders = np.zeros((2, len(products), 8, 8), dtype=np.int64)
    for (row_count, left), (column_count, right) in product(row_blocks, column_blocks):
        count = row_count * column_count
        orders[0] += count * _block_cycles(array, left, right, depth)
        orders[1] += count * _block_cycles(array, right, left, depth)
    shape = orders.shape[1:]
    tiles = ceil_div(rows, array.size) * ceil_div(columns, array.size)
    row_passes, column_passes = (sum(count for count, _ in blocks) for blocks in (row_blocks, column_blocks))
    return ProductCost(
        cycles=repeats * orders.min(axis=0),
        compute_cycles=repeats * tiles * depth.words * w_bits * a_bits,
        left_beats=np.broadcast_to(repeats * rows * w_bits * depth.beats * column_passes, shape),
        right_beats=np.broadcast_to(repeats * columns * a_bits * depth.beats * row_passes, shape),
    )


def _depth(array: BinaryArray, common: IntArray) -> _Depth:
    """Divide the common dimension into words."""
    words = ceil_div(common, array.dot_bits)
    last = ceil_div(common - array.dot_bits * (words - 1), array.port_bits)
    return _Depth(words, -(-array.dot_bits // array.port_bits), last)


def _blocks(array: BinaryArray, side: _Side, depth: _Depth) -> tuple[tuple[IntArray, _Side], ...]:
    """Split a side into full blocks and a remainder.

    Each is (count, one block); a block is as many whole tiles as fit the buffer.
    """
    fitting = array.buffer_words // (side.bits * depth.words) // array.size * array.size
    largest = np.maximum(array.size, fitting)
    full, rest = np.divmod(side.lines, largest)
    return (full, side._replace(lines=largest)), (np.minimum(rest, 1), side._replace(lines=np.maximum(rest, 1)))


def _block_cycles(array: BinaryArray, inner: _Side, outer: _Side, depth: _Depth) -> IntArray:
    """Compute the cycles of one block.

    The array does one step per cycle: one word of one bit plane of a tile of each operand. The loops, outermost first,
    run over outer tiles, inner tiles, words, inner bit planes and outer bit planes. The block takes one cycle per step,
    plus the longest wait for either operand.
    """
    inner_tiles, outer_tiles = ceil_div(inner.lines, array.size), ceil_div(outer.lines, array.size)
    word = inner.bits * outer.bits
    tile = depth.words * word
    work = inner_tiles * outer_tiles * tile
    inner_wait = _longest_wait(array, inner, depth, _Steps(tile, word, outer.bits))
    outer_wait = _longest_wait(array, outer, depth, _Steps(inner_tiles * tile, word, 1))
    return work + np.maximum(0, np.maximum(inner_wait, outer_wait))


def _longest_wait(array: BinaryArray, side: _Side, depth: _Depth, steps: _Steps) -> IntArray:
    """Compute the maximum over the pieces of an operand of their arrival minus their first use, in cycles.

    Both are of an execution that never waits, so that a positive maximum is the number of cycles that it has to wait. A
    piece is one word of one bit plane of the lines of one tile. Pieces are fetched in the order of first use, each line
    of a piece in its word's beats, and never evicted. Arrival and use are both linear in tile, word and plane, except
    that the last tile and the last word may be smaller; the maximum is therefore at one of the extreme positions.
    """
    tiles = ceil_div(side.lines, array.size)
    latest = np.full(1, np.iinfo(np.int64).min)
    positions = (_extreme_positions(tiles), _extreme_positions(depth.words), _first_and_last(side.bits))
    for tile, word, plane in product(*positions):
        lines = np.where(tile == tiles - 1, side.lines - array.size * (tiles - 1), array.size)
        beats = np.where(word == depth.words - 1, depth.last, depth.full)
        before = tile * array.size * side.bits * depth.beats
        arrival = before + (word * depth.full * side.bits + (plane + 1) * beats) * lines - 1
        first_use = tile * steps.tile + word * steps.word + plane * steps.plane
        latest = np.maximum(latest, arrival - first_use)
    return latest


def _extreme_positions(count: IntArray) -> tuple[IntArray, ...]:
    """Positions at which a function of 0 to count - 1 can be largest that is linear up to the last but one."""
    return *_first_and_last(count), np.maximum(count - 2, 0)


def _first_and_last(count: IntArray) -> tuple[IntArray, IntArray]:
    return np.zeros_like(count), count - 1

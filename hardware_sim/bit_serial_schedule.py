"""Cycles of a bit-serial matrix product: an in-order schedule with two prefetching read ports, in closed form."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np

from hardware_sim.cost import IntArray
from hardware_sim.lowering import Product

INTEGER_BITS = np.arange(1, 9, dtype=np.int64)
"""The widths of bit planes that are priced, along both bit axes."""


class Price(NamedTuple):
    """What products take, [product, w_bits, a_bits]: cycles, those in which the array works, and beats of each port."""

    cycles: IntArray
    compute: IntArray
    left_beats: IntArray
    right_beats: IntArray


@dataclass(frozen=True, slots=True)
class BinaryArray:
    """`size` x `size` dot products of `dot_bits` binary MACs; a read port and a buffer for each operand."""

    size: int
    dot_bits: int
    port_bits: int
    buffer_words: int


class _Side(NamedTuple):
    """One operand of a block: its rows or columns, and its bit planes."""

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


def price_products(array: BinaryArray, products: Sequence[Product]) -> Price:
    """Price all repeats of every product at every pair of integer widths.

    An operand's words stay on chip, so rows and columns are cut into blocks that fit the buffers; blocks run one
    after the other and each fetches both of its operands. Of the two loop orders the one with fewer cycles counts.
    """
    numbers = np.array(products, dtype=np.int64).reshape(-1, 4, 1, 1)
    repeats, rows, columns, common = numbers.swapaxes(0, 1)
    w_bits, a_bits = INTEGER_BITS[:, None], INTEGER_BITS[None, :]
    depth = _cut(array, common)
    row_blocks = _blocks(array, _Side(rows, w_bits), depth)
    column_blocks = _blocks(array, _Side(columns, a_bits), depth)
    orders = np.zeros((2, len(products), 8, 8), dtype=np.int64)
    for (row_count, left), (column_count, right) in product(row_blocks, column_blocks):
        count = row_count * column_count
        orders[0] += count * _block_cycles(array, left, right, depth)
        orders[1] += count * _block_cycles(array, right, left, depth)
    shape = orders.shape[1:]
    tiles = _ceil(rows, array.size) * _ceil(columns, array.size)
    row_passes, column_passes = (sum(count for count, _ in blocks) for blocks in (row_blocks, column_blocks))
    return Price(
        cycles=repeats * orders.min(axis=0),
        compute=repeats * tiles * depth.words * w_bits * a_bits,
        left_beats=np.broadcast_to(repeats * rows * w_bits * depth.beats * column_passes, shape),
        right_beats=np.broadcast_to(repeats * columns * a_bits * depth.beats * row_passes, shape),
    )


def _cut(array: BinaryArray, common: IntArray) -> _Depth:
    words = _ceil(common, array.dot_bits)
    last = _ceil(common - array.dot_bits * (words - 1), array.port_bits)
    return _Depth(words, -(-array.dot_bits // array.port_bits), last)


def _blocks(array: BinaryArray, side: _Side, depth: _Depth) -> tuple[tuple[IntArray, _Side], ...]:
    """Full blocks and a rest, each as (how many, one of them); a block is whole tiles that fit the buffer."""
    fitting = array.buffer_words // (side.bits * depth.words) // array.size * array.size
    largest = np.maximum(array.size, fitting)
    full, rest = np.divmod(side.lines, largest)
    return (full, side._replace(lines=largest)), (np.minimum(rest, 1), side._replace(lines=np.maximum(rest, 1)))


def _block_cycles(array: BinaryArray, inner: _Side, outer: _Side, depth: _Depth) -> IntArray:
    """Cycles of one block in the order outer tile, inner tile, word, inner bit, outer bit; one cycle per step."""
    inner_tiles, outer_tiles = _ceil(inner.lines, array.size), _ceil(outer.lines, array.size)
    word = inner.bits * outer.bits
    tile = depth.words * word
    work = inner_tiles * outer_tiles * tile
    inner_late = _lateness(array, inner, depth, _Steps(tile, word, outer.bits))
    outer_late = _lateness(array, outer, depth, _Steps(inner_tiles * tile, word, 1))
    return work + np.maximum(0, np.maximum(inner_late, outer_late))


def _lateness(array: BinaryArray, side: _Side, depth: _Depth, steps: _Steps) -> IntArray:
    """Most cycles by which a piece (tile, word, bit plane) of an operand lands after the array wants it first.

    Pieces are fetched in the order of first use, each line of a piece in its word's beats, and never evicted. Arrival
    and use are both linear in tile, word and plane except at the ends, so only the ends can be the latest.
    """
    tiles = _ceil(side.lines, array.size)
    latest = np.full(1, np.iinfo(np.int64).min)
    for tile, word, plane in product(_ends(tiles), _ends(depth.words), _first_and_last(side.bits)):
        lines = np.where(tile == tiles - 1, side.lines - array.size * (tiles - 1), array.size)
        beats = np.where(word == depth.words - 1, depth.last, depth.full)
        before = tile * array.size * side.bits * depth.beats
        landed = before + (word * depth.full * side.bits + (plane + 1) * beats) * lines - 1
        wanted = tile * steps.tile + word * steps.word + plane * steps.plane
        latest = np.maximum(latest, landed - wanted)
    return latest


def _ends(count: IntArray) -> tuple[IntArray, ...]:
    return *_first_and_last(count), np.maximum(count - 2, 0)


def _first_and_last(count: IntArray) -> tuple[IntArray, IntArray]:
    return np.zeros_like(count), count - 1


def _ceil(numerator: IntArray, denominator: int) -> IntArray:
    return -(-numerator // denominator)

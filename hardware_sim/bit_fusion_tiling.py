"""How BitFusion runs one loop nest: the best tile and loop order, and the cycles and traffic that they lead to.

The rules are those of the simulator that was published with BitFusion (Sharma et al., ISCA 2018), and its cycles and
bits are met exactly. A tile of each operand fits half of its buffer; the other half is being filled. Operands that
stay in their buffer over inner loops are not fetched again. The fewest cycles win, then the least energy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardware_sim.bit_fusion_nest import (
    BATCH,
    C_IN,
    C_OUT,
    HEIGHT,
    INPUTS,
    OUTPUTS,
    PARTIAL_BITS,
    WEIGHTS,
    WIDTH,
    FusionArray,
    Work,
    ceil_div,
    extents,
    operand_bits,
    performance,
    tile_sizes,
)
from hardware_sim.cost import FloatArray, IntArray
from hardware_sim.traffic import UNREAD_BITS


class Activity(NamedTuple):
    """What happens while a nest runs: cycles, and bits in and out of memory and of the buffers; arrays of one shape."""

    cycles: IntArray
    compute_cycles: IntArray
    dram_read_bits: IntArray
    dram_write_bits: IntArray
    weight_read_bits: IntArray
    weight_write_bits: IntArray
    input_read_bits: IntArray
    input_write_bits: IntArray
    output_read_bits: IntArray
    output_write_bits: IntArray

    @property
    def dram_bits(self) -> IntArray:
        return self.dram_read_bits + self.dram_write_bits

    def compute_pj(self, array: FusionArray) -> FloatArray:
        """Every unit draws its power in every cycle in which the array works."""
        return np.asarray(self.compute_cycles * array.cycle_pj)

    def sram_pj(self, array: FusionArray) -> FloatArray:
        """Bits read and written by each buffer, at its energy per bit."""
        reads = (self.weight_read_bits, self.input_read_bits, self.output_read_bits)
        writes = (self.weight_write_bits, self.input_write_bits, self.output_write_bits)
        bits = (*reads, *writes)
        costs = (*array.buffer_read_pj, *array.buffer_write_pj)
        return np.asarray(sum(cost * count for cost, count in zip(costs, bits, strict=True)))

    def dram_pj(self, array: FusionArray) -> FloatArray:
        """Bits over the port, at the energy of memory."""
        return np.asarray(self.dram_bits * array.dram_pj)


class Schedule(NamedTuple):
    """The chosen tile (batch, height, width, c_in, c_out) and what it leads to."""

    tile: tuple[int, ...]
    activity: Activity


def find_schedule(array: FusionArray, work: Work) -> Schedule | None:
    """The best tile and loop order, or None if no tile fits the buffers.

    Only tiles whose `cycle_floor` does not exceed what the tile with the lowest floor reaches are looked at, which
    cannot change the result.
    """
    tiles = Tiles.fitting(array, work)
    if not len(tiles.sizes):
        return None
    floor = tiles.cycle_floor()
    reached = tiles.only(np.asarray(floor == floor.min())).activity().cycles.min()
    return tiles.only(np.asarray(floor <= reached)).best()


class _Flow(NamedTuple):
    """Bits between memory and the buffers, and those of them before the first and after the last computation."""

    weights: IntArray
    inputs: IntArray
    outputs_in: IntArray
    outputs_out: IntArray
    first: IntArray
    last: IntArray
    drained: IntArray
    """Bits read from the output buffer for memory, at the width that they have in the buffer."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """Candidate tiles of a piece of work, [tile, loop], with what one tile holds and moves, [tile, operand] in bits."""

    array: FusionArray
    work: Work
    sizes: IntArray
    runs: IntArray
    held_bits: IntArray
    moved_bits: IntArray

    @classmethod
    def fitting(cls, array: FusionArray, work: Work) -> "Tiles":
        """The tiles that fit half of every buffer."""
        sizes = tile_sizes(array, work.nest)
        padded = operand_bits(array, work, sizes, is_padded=True)
        is_published = array.mode == "as-published"
        moved = padded if is_published else operand_bits(array, work, sizes, is_padded=False)
        tiles = cls(array, work, sizes, ceil_div(extents(work.nest), sizes), padded, moved)
        return tiles.only(np.asarray((padded <= tiles.capacity).all(axis=1)))

    def only(self, chosen: NDArray[np.bool_]) -> "Tiles":
        """Some of the tiles."""
        parts = (self.sizes, self.runs, self.held_bits, self.moved_bits)
        return Tiles(self.array, self.work, *(part[chosen] for part in parts))

    @property
    def capacity(self) -> IntArray:
        """Half of each buffer, in bits."""
        return np.array(self.array.buffer_bits, dtype=np.int64) // 2

    @property
    def uses(self) -> NDArray[np.bool_]:
        """Which loops step through which operand, [loop, operand]."""
        nest = self.work.nest
        table = np.array([[0, 1, 1], [0, 1, 1], [0, 1, 1], [1, 1, 0], [1, 0, 1]], dtype=bool)
        table[C_OUT, INPUTS] = nest.shared_c_out < nest.c_out
        return table

    def best(self) -> Schedule:
        """The fewest cycles, then the least energy; of equals the first order, then the first tile."""
        activity = self.activity()
        orders, tiles = np.nonzero(activity.cycles == activity.cycles.min())
        fewest = Activity(*(np.broadcast_to(part, activity.cycles.shape)[orders, tiles] for part in activity))
        parts = (fewest.compute_pj(self.array), fewest.sram_pj(self.array), fewest.dram_pj(self.array))
        chosen = int(np.argmin(sum(parts)))
        return Schedule(tuple(self.sizes[tiles[chosen]].tolist()), Activity(*(part[chosen] for part in fewest)))

    def cycle_floor(self) -> IntArray:
        """Cycles that no loop order can beat, [tile]: nothing is fetched twice, and the ends are as short as can be."""
        once = self._fetched_once()
        flow = self._flow(once, np.ones_like(once))
        moved = flow.weights + flow.inputs + flow.outputs_in + flow.outputs_out
        ends = ceil_div(flow.first, self.array.port_bits) + ceil_div(flow.last, self.array.port_bits)
        return np.maximum(self._compute_cycles() + ends, ceil_div(moved, self.array.port_bits))

    def activity(self, orders: Sequence[tuple[int, ...]] | None = None) -> Activity:
        """Everything for every loop order (outermost loop first) and tile, [order, tile]."""
        flow = self._flow(*self._reuse(np.array(self.distinct_orders() if orders is None else orders)))
        read, written = flow.weights + flow.inputs + flow.outputs_in, flow.outputs_out
        port = self.array.port_bits
        compute = self._compute_cycles()
        ends = ceil_div(flow.first, port) + ceil_div(flow.last, port)
        between = ceil_div(read + written - flow.first - flow.last, port)
        outputs = self.runs.prod(axis=1) * self.sizes[:, [BATCH, HEIGHT, WIDTH, C_OUT]].prod(axis=1)
        macs = outputs * self.sizes[:, C_IN] * prod(self.work.nest.kernel)
        return Activity(
            cycles=np.maximum(compute, between) + ends,
            compute_cycles=compute,
            dram_read_bits=read,
            dram_write_bits=written,
            weight_read_bits=macs * self.work.w_bits,
            weight_write_bits=flow.weights,
            input_read_bits=macs * self.work.a_bits,
            input_write_bits=flow.inputs,
            output_read_bits=outputs * PARTIAL_BITS + flow.drained,
            output_write_bits=outputs * PARTIAL_BITS + flow.outputs_in,
        )

    def distinct_orders(self) -> list[tuple[int, ...]]:
        """The loop orders that can differ.

        A loop that runs once stands anywhere, and height and width can change places where both run equally often.
        """
        counts = self.runs.T
        once = tuple(loop for loop in range(5) if counts[loop].max() == 1)
        orders = permutations(loop for loop in range(5) if loop not in once)
        swappable = bool((counts[HEIGHT] == counts[WIDTH]).all()) and HEIGHT not in once
        return [once + order for order in orders if not swappable or order.index(HEIGHT) < order.index(WIDTH)]

    def _compute_cycles(self) -> IntArray:
        nest, sizes = self.work.nest, self.sizes
        depth = self.array.rows * performance(self.work.w_bits, self.work.a_bits)
        taps = prod(nest.kernel)
        steps = (
            taps * ceil_div(sizes[:, C_IN], depth) if nest.taps == "steps" else ceil_div(taps * sizes[:, C_IN], depth)
        )
        tile = sizes[:, [BATCH, HEIGHT, WIDTH]].prod(axis=1) * ceil_div(sizes[:, C_OUT], self.array.columns) * steps
        return np.asarray(self.runs.prod(axis=1) * tile)

    def _fetched_once(self) -> IntArray:
        """Tiles that each operand consists of, [tile, operand]."""
        return np.asarray(np.where(self.uses, self.runs[:, :, None], 1).prod(axis=1))

    def _reuse(self, orders: IntArray) -> tuple[IntArray, IntArray]:
        """How many tiles of each operand are fetched, and how many its buffer keeps, [order, tile, operand].

        From the innermost loop outwards an operand is kept as long as what the loops step through fits; every loop
        outside of that fetches it again.
        """
        grown = np.ones((len(orders), *self.held_bits.shape), dtype=np.int64)
        fetched, kept = grown.copy(), grown.copy()
        for position in reversed(range(orders.shape[1])):
            runs = self.runs.T[orders[:, position]][:, :, None]
            uses = self.uses[orders[:, position]][:, None, :]
            was_kept = grown * self.held_bits <= self.capacity
            grown = np.where(uses, grown * runs, grown)
            kept = np.where(grown * self.held_bits <= self.capacity, grown, kept)
            fetched = np.where(uses | ~was_kept, fetched * runs, fetched)
        return fetched, kept

    def _flow(self, fetched: IntArray, kept: IntArray) -> _Flow:
        moved, first = fetched * self.moved_bits, kept * self.moved_bits
        weights, inputs, outputs = (moved[..., operand] for operand in range(3))
        if self.array.mode == "as-published":
            last = first[..., OUTPUTS]
            return _Flow(weights, inputs, outputs, outputs, first.sum(axis=-1), last, outputs)
        once = self._fetched_once()[:, OUTPUTS] * self.moved_bits[:, OUTPUTS]
        write_back = self.work.write_back_bits
        last = np.minimum(write_back, self.moved_bits[:, OUTPUTS] * UNREAD_BITS // PARTIAL_BITS)
        spilt = outputs - once
        return _Flow(
            weights, inputs, spilt, spilt + write_back, first[..., WEIGHTS] + first[..., INPUTS], last, outputs
        )

"""Schedule search of BitFusion: the best tile and loop order of a loop nest, with its cycles and traffic.

The rules are those of the simulator that was published with BitFusion (Sharma et al., ISCA 2018), and reproduce its
cycles and bits exactly. A tile of each operand fits half of its buffer; the other half is being filled. Operands that
stay in their buffer over inner loops are not fetched again. The fewest cycles win, then the least energy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardware_sim.bit_fusion_activity import Activity
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
    extents,
    operand_bits,
    performance,
    tile_sizes,
)
from hardware_sim.cost import IntArray
from hardware_sim.integers import ceil_div
from hardware_sim.traffic import UNREAD_BITS


class Schedule(NamedTuple):
    """A tile (batch, height, width, c_in, c_out) and the activity that it leads to."""

    tile: tuple[int, ...]
    activity: Activity


def find_schedule(array: FusionArray, work: Work) -> Schedule | None:
    """Find the best tile and loop order.

    Tiles whose `cycle_floor` exceeds the cycles of the tile with the lowest floor are skipped, which cannot change the
    result.

    Args:
        array: The array.
        work: The loop nest and its widths.

    Returns:
        The schedule; None if no tile fits the buffers.
    """
    tiles = Tiles.fitting(array, work)
    if not len(tiles.sizes):
        return None
    floor = tiles.cycle_floor()
    reached = tiles.only(np.asarray(floor == floor.min())).activity().cycles.min()
    return tiles.only(np.asarray(floor <= reached)).best()


class _Flow(NamedTuple):
    """Bits between memory and the buffers, and the parts of them before the first and after the last computation."""

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
    """Candidate tiles of a loop nest, [tile, loop], with what one tile holds and moves, [tile, operand] in bits."""

    array: FusionArray
    work: Work
    sizes: IntArray
    runs: IntArray
    held_bits: IntArray
    moved_bits: IntArray

    @classmethod
    def fitting(cls, array: FusionArray, work: Work) -> "Tiles":
        """List the tiles that fit half of every buffer.

        Args:
            array: The array.
            work: The loop nest and its widths.

        Returns:
            The tiles, possibly none.
        """
        sizes = tile_sizes(array, work.nest)
        padded = operand_bits(array, work, sizes, is_padded=True)
        is_published = array.mode == "as-published"
        moved = padded if is_published else operand_bits(array, work, sizes, is_padded=False)
        tiles = cls(array, work, sizes, ceil_div(extents(work.nest), sizes), padded, moved)
        return tiles.only(np.asarray((padded <= tiles.capacity).all(axis=1)))

    def only(self, chosen: NDArray[np.bool_]) -> "Tiles":
        """Select tiles.

        Args:
            chosen: Mask [tile].

        Returns:
            The selected tiles.
        """
        parts = (self.sizes, self.runs, self.held_bits, self.moved_bits)
        return Tiles(self.array, self.work, *(part[chosen] for part in parts))

    @property
    def capacity(self) -> IntArray:
        """Half of each buffer, in bits."""
        return np.array(self.array.buffer_bits, dtype=np.int64) // 2

    @property
    def uses(self) -> NDArray[np.bool_]:
        """Which loops iterate over which operand, [loop, operand]."""
        nest = self.work.nest
        table = np.array([[0, 1, 1], [0, 1, 1], [0, 1, 1], [1, 1, 0], [1, 0, 1]], dtype=bool)
        table[C_OUT, INPUTS] = nest.shared_c_out < nest.c_out
        return table

    def best(self) -> Schedule:
        """Schedule of the fewest cycles, then the least energy, then the first order and tile."""
        activity = self.activity()
        orders, tiles = np.nonzero(activity.cycles == activity.cycles.min())
        fewest = Activity(*(np.broadcast_to(part, activity.cycles.shape)[orders, tiles] for part in activity))
        parts = (fewest.compute_pj(self.array), fewest.sram_pj(self.array), fewest.dram_pj(self.array))
        chosen = int(np.argmin(sum(parts)))
        return Schedule(tuple(self.sizes[tiles[chosen]].tolist()), Activity(*(part[chosen] for part in fewest)))

    def cycle_floor(self) -> IntArray:
        """Compute a lower bound of the cycles over all loop orders.

        Nothing is fetched twice, and first and last transfers are as short as possible.

        Returns:
            Cycles [tile].
        """
        once = self._fetched_once()
        flow = self._flow(once, np.ones_like(once))
        moved = flow.weights + flow.inputs + flow.outputs_in + flow.outputs_out
        ends = ceil_div(flow.first, self.array.port_bits) + ceil_div(flow.last, self.array.port_bits)
        return np.maximum(self._compute_cycles() + ends, ceil_div(moved, self.array.port_bits))

    def activity(self, orders: Sequence[tuple[int, ...]] | None = None) -> Activity:
        """Compute the activity of every loop order and tile.

        Args:
            orders: Loop orders, outermost loop first; all distinct ones when None.

        Returns:
            Arrays [order, tile].
        """
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
        """List the loop orders that can differ in cost.

        A loop of one iteration can stand anywhere, and height and width are interchangeable where they have the same
        number of iterations.

        Returns:
            Loop orders, outermost loop first.
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
        """Count the tiles that each operand consists of, [tile, operand]."""
        return np.asarray(np.where(self.uses, self.runs[:, :, None], 1).prod(axis=1))

    def _reuse(self, orders: IntArray) -> tuple[IntArray, IntArray]:
        """Compute how many tiles of each operand are fetched, and how many its buffer keeps, [order, tile, operand].

        From the innermost loop outwards an operand is kept as long as what the loops iterate over fits; every loop
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

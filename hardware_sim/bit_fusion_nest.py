"""Loop nests of BitFusion, the parameters of the array, and tiles with the bits of their operands."""

from dataclasses import dataclass
from math import prod
from typing import Literal, NamedTuple

import numpy as np

from hardware_sim.cost import IntArray
from hardware_sim.integers import ceil_div
from hardware_sim.layer import Size

Mode = Literal["as-published", "corrected"]
Taps = Literal["steps", "rows", "unrolled"]
"""Placement of the taps of a kernel: in successive steps; side by side on the rows of the array; or side by side on the
rows, and repeated in memory for every output as well (im2col by the host).
"""

BATCH, HEIGHT, WIDTH, C_IN, C_OUT = range(5)
"""Tiled loops; kernels are never tiled."""
WEIGHTS, INPUTS, OUTPUTS = range(3)
PARTIAL_BITS = 32


class Nest(NamedTuple):
    """Loops that the array runs at once: `batch` times `output_size` outputs of `c_out` channels.

    Every output channel reads `c_in` input channels; `shared_c_out` adjacent output channels read the same ones.
    """

    batch: int
    c_in: int
    c_out: int
    shared_c_out: int
    output_size: Size = (1, 1)
    kernel: Size = (1, 1)
    stride: Size = (1, 1)
    dilation: Size = (1, 1)
    input_size: Size = (1, 1)
    taps: Taps = "steps"


@dataclass(frozen=True, slots=True)
class FusionArray:
    """Array of `rows` x `columns` fusion units with a memory port and three buffers (weights, inputs, outputs)."""

    rows: int
    columns: int
    port_bits: int
    buffer_bits: tuple[int, int, int]
    buffer_read_pj: tuple[float, float, float]
    """pJ per bit, as all energies below except `cycle_pj`, which is of the whole array per cycle."""
    buffer_write_pj: tuple[float, float, float]
    cycle_pj: float
    dram_pj: float
    mode: Mode = "corrected"


class Work(NamedTuple):
    """A nest at a pair of widths; `write_back_bits` are results that are written to memory while it runs."""

    nest: Nest
    w_bits: int
    a_bits: int
    write_back_bits: int = 0


def performance(w_bits: int, a_bits: int) -> int:
    """Compute the throughput of one fusion unit: 16 bricks of 2 x 2 bits, for widths rounded up to 2, 4 or 8.

    Args:
        w_bits: Bits of the weights.
        a_bits: Bits of the input activations.

    Returns:
        MACs per cycle.

    Example:
        >>> performance(8, 8), performance(4, 8), performance(3, 3), performance(2, 2), performance(1, 1)
        (1, 2, 4, 16, 16)
    """
    return (8 // max(2, w_bits)) * (8 // max(2, a_bits))


def extents(nest: Nest) -> IntArray:
    """Return the number of iterations of the tiled loops.

    Args:
        nest: The loops.

    Returns:
        Array [loop]: batch, height, width, c_in, c_out.
    """
    return np.array([nest.batch, *nest.output_size, nest.c_in, nest.c_out], dtype=np.int64)


def _powers(limit: int) -> list[int]:
    """1, 2, 4, ... below the limit, and the limit."""
    return [*(2**power for power in range((limit - 1).bit_length())), limit]


def tile_sizes(array: FusionArray, nest: Nest) -> IntArray:
    """List candidate tiles of a loop nest.

    Height and width are tiled alike; output channels in whole columns of the array, unless taps are unrolled.

    Args:
        array: The array.
        nest: The loops.

    Returns:
        Sizes [tile, loop].
    """
    height, width = nest.output_size
    sides = [(min(side, height), min(side, width)) for side in _powers(max(height, width))]
    whole_columns = [min(array.columns * count, nest.c_out) for count in _powers(-(-nest.c_out // array.columns))]
    c_outs = _powers(nest.c_out) if nest.taps == "unrolled" else whole_columns
    return np.array(
        [
            (batch, *side, c_in, c_out)
            for batch in _powers(nest.batch)
            for side in sides
            for c_in in _powers(nest.c_in)
            for c_out in c_outs
        ],
        dtype=np.int64,
    )


def operand_bits(array: FusionArray, work: Work, sizes: IntArray, *, is_padded: bool) -> IntArray:
    """Compute the bits of weights, inputs and partial sums of one tile.

    Args:
        array: The array.
        work: The loop nest and its widths.
        sizes: Tiles [tile, loop].
        is_padded: Pad weights to all rows and outputs to all columns of the array, as in the banks of the buffers.

    Returns:
        Bits [tile, operand].
    """
    nest = work.nest
    batch, height, width, c_in, c_out = sizes.T
    taps = prod(nest.kernel)
    depth = array.rows * performance(work.w_bits, work.a_bits) if is_padded else 1
    columns = array.columns if is_padded else 1
    pixels = height * width * taps
    if nest.taps != "unrolled":
        spans = (_span(nest, axis, side) for axis, side in enumerate((height, width)))
        limits = nest.input_size if array.mode == "corrected" else (2**31, 2**31)
        pixels = np.asarray(prod(np.minimum(span, limit) for span, limit in zip(spans, limits, strict=True)))
    weights = ceil_div(taps * c_in, depth) * depth * c_out * work.w_bits
    inputs = batch * pixels * c_in * ceil_div(c_out, nest.shared_c_out if nest.shared_c_out < nest.c_out else c_out)
    outputs = batch * height * width * ceil_div(c_out, columns) * columns * PARTIAL_BITS
    return np.stack([weights, inputs * work.a_bits, outputs], axis=1)


def _span(nest: Nest, axis: int, outputs: IntArray) -> IntArray:
    """Count the input rows or columns that a number of adjacent outputs read."""
    return (outputs - 1) * nest.stride[axis] + (nest.kernel[axis] - 1) * nest.dilation[axis] + 1

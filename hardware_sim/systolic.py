"""An int8 systolic array: cycles in closed form for three dataflows, overlapped with memory traffic.

The closed forms equal SCALE-Sim v3 (Samajdar et al., ISPASS 2020; its version 3) where memory does not stall.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from hardware_sim import proxy
from hardware_sim.accelerator import (
    Accelerator,
    ByteCount,
    BytesPerS,
    ClockHz,
    PicoJoules,
    Watts,
    resolve_batch,
)
from hardware_sim.cost import Bits, CostTable, FloatArray, IntArray
from hardware_sim.energy import PICO, integer_mac_energy_j, sram_energy_j_per_bit
from hardware_sim.layer import Layer
from hardware_sim.lowering import Product, image_product
from hardware_sim.roofline import memory_time_s
from hardware_sim.traffic import MovedBits, integer_pairs, moved_bits, moved_elements, packed_bits

MULTIPLIER_BITS = 8
ACCUMULATOR_BITS = 32
Dimension = Literal["rows", "columns", "depth"]
Side = Annotated[int, Field(strict=True, ge=1, le=65536)]


class Dataflow(NamedTuple):
    """Dimensions of a product along the rows and columns of the array; the third one is streamed."""

    along_rows: Dimension
    along_columns: Dimension
    streamed: Dimension
    fills: int
    """How many times the stream crosses the height of the array at start and end: to load what stays, and to skew."""


DATAFLOWS: Mapping[str, Dataflow] = {
    "ws": Dataflow("depth", "rows", "columns", fills=2),
    "os": Dataflow("columns", "rows", "depth", fills=1),
    "is": Dataflow("depth", "columns", "rows", fills=2),
}
"""Weight, output and input stationary; weights are [rows, depth], activations [depth, columns]."""


class Work(NamedTuple):
    """Work of products, each [product]: cycles, and reads and writes of operands at the edge of the array."""

    cycles: IntArray
    weight_reads: IntArray
    input_reads: IntArray
    output_writes: IntArray


def array_work(products: Sequence[Product], *, size: tuple[int, int], dataflow: Dataflow) -> Work:
    """Compute the cycles and operand accesses of products.

    A product is folded over the array; each fold takes the length of the stream and the way through the array. An
    operand is delivered again for every fold of a dimension that it does not have.

    Args:
        products: Matrix products.
        size: Rows and columns of the array.
        dataflow: Which operand stays in the array.

    Returns:
        Work of each product.

    Example:
        >>> one = Product(repeats=1, rows=48, columns=196, depth=144)
        >>> array_work([one], size=(16, 16), dataflow=DATAFLOWS["ws"]).cycles.tolist()
        [6533]
    """
    numbers = np.array(products, dtype=np.int64).reshape(-1, 4)
    repeats = numbers[:, 0]
    extent = {"rows": numbers[:, 1], "columns": numbers[:, 2], "depth": numbers[:, 3]}
    folds = {name: np.ones_like(repeats) for name in extent}
    folds[dataflow.along_rows] = -(-extent[dataflow.along_rows] // size[0])
    folds[dataflow.along_columns] = -(-extent[dataflow.along_columns] // size[1])
    fold_cycles = extent[dataflow.streamed] + dataflow.fills * size[0] + size[1] - 2
    return Work(
        cycles=repeats * (folds[dataflow.along_rows] * folds[dataflow.along_columns] * fold_cycles - 1),
        weight_reads=repeats * extent["rows"] * extent["depth"] * folds["columns"],
        input_reads=repeats * extent["depth"] * extent["columns"] * folds["rows"],
        output_writes=repeats * extent["rows"] * extent["columns"] * folds["depth"],
    )


def refetched_bits(moved: MovedBits, buffer_bits: float) -> FloatArray:
    """Compute the DRAM traffic when the larger operand is fetched for every buffer-sized piece of the smaller one.

    Args:
        moved: Bits of weights, inputs and outputs when each is moved once.
        buffer_bits: Size of the on-chip buffer.

    Returns:
        Bits, of the broadcast shape of `moved`.
    """
    smaller, larger = np.minimum(moved.weights, moved.inputs), np.maximum(moved.weights, moved.inputs)
    return np.asarray(smaller + larger * np.maximum(1, np.ceil(smaller / buffer_bits)) + moved.outputs)


class Systolic(Accelerator):
    """Array of `array_rows` x `array_columns` 8-bit multipliers; narrower operands only save memory traffic.

    Layers are lowered to products as in `hardware_sim.lowering`; the images of a batch are placed side by side, except
    in matmuls, whose two factors both differ from image to image. Operands are stored at their own width in DRAM and in
    the double-buffered on-chip buffer of `buffer_bytes`. An output is written in the row of the first layer that reads
    it. Float is not supported: widths of None are NaN.
    """

    kind: Literal["systolic"] = "systolic"
    array_rows: Side
    array_columns: Side
    dataflow: Literal["ws", "os", "is"]
    clock_hz: ClockHz
    memory_bytes_per_s: BytesPerS
    buffer_bytes: ByteCount
    dram_pj_per_bit: PicoJoules
    static_w: Watts

    @model_validator(mode="after")
    def _tile_fits(self) -> Self:
        tile_bytes = 2 * self.array_rows * self.array_columns
        if self.buffer_bytes < tile_bytes:
            raise ValueError(
                f"buffer_bytes {self.buffer_bytes} cannot hold one tile: two of {self.array_rows} x "
                f"{self.array_columns} bytes are {tile_bytes}"
            )
        return self

    @property
    def bytes_per_s(self) -> float:
        """Bandwidth of main memory."""
        return self.memory_bytes_per_s

    def peak_macs_per_s(self, w_bits: Bits, a_bits: Bits) -> float | None:
        """One MAC per multiplier and cycle at every integer width; None for float."""
        if w_bits is None or a_bits is None:
            return None
        return self.array_rows * self.array_columns * self.clock_hz

    def table(self, layers: Sequence[Layer], *, batch: int | None = None) -> CostTable:
        """Compute the cost of every layer at every pair of widths; NaN for float widths."""
        size = resolve_batch(self, batch)
        mask = integer_pairs()
        array = (self.array_rows, self.array_columns)
        work = array_work([_batched(layer, size) for layer in layers], size=array, dataflow=DATAFLOWS[self.dataflow])
        moved = moved_bits(moved_elements(layers, size), *packed_bits())
        dram_bits = refetched_bits(moved, 8 * self.buffer_bytes / 2) * mask
        compute_cycles = work.cycles[:, None, None].astype(np.float64)
        memory_cycles = np.ceil(memory_time_s(dram_bits, self.memory_bytes_per_s) * self.clock_hz)
        cycles = np.maximum(compute_cycles, memory_cycles)
        latency_s = cycles / self.clock_hz
        return CostTable(
            hardware=self.name,
            layers=tuple(layers),
            batch=size,
            cycles=cycles,
            latency_s=latency_s,
            energy_parts_j=self._energy_parts_j(layers, size, work=work, dram_bits=dram_bits, latency_s=latency_s),
            weight_bytes=proxy.weight_bytes(layers),
            bops=proxy.bops(layers),
            dram_bits=dram_bits,
            compute_bound=compute_cycles > memory_cycles,
            notes=("energy is an estimate: 45 nm arithmetic and buffers, memory by the bit, assumed static power",),
        )

    def _energy_parts_j(
        self, layers: Sequence[Layer], batch: int, *, work: Work, dram_bits: FloatArray, latency_s: FloatArray
    ) -> dict[str, FloatArray]:
        mask = integer_pairs()
        macs = batch * np.array([layer.macs for layer in layers], dtype=np.float64)[:, None, None]
        weights, inputs, outputs = (part[:, None, None].astype(np.float64) for part in work[1:])
        w_stored, a_stored = packed_bits()
        sram_bits = weights * w_stored + inputs * a_stored + outputs * ACCUMULATOR_BITS
        return {
            "compute": macs * integer_mac_energy_j(MULTIPLIER_BITS, MULTIPLIER_BITS) * mask,
            "sram": sram_bits * sram_energy_j_per_bit(self.buffer_bytes) * mask,
            "dram": dram_bits * self.dram_pj_per_bit * PICO,
            "static": latency_s * self.static_w,
        }


def _batched(layer: Layer, batch: int) -> Product:
    image = image_product(layer)
    if not layer.has_weights:
        return image._replace(repeats=batch * image.repeats)
    return image._replace(columns=batch * image.columns)

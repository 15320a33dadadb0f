"""BitFusion, a systolic array of multipliers composed of 2-bit bricks, so that narrow operands run faster.

The array and its simulator: Sharma et al., "Bit Fusion: Bit-Level Dynamically Composable Architecture for Accelerating
Deep Neural Networks", ISCA 2018. Schedules are searched in `hardware_sim.bit_fusion_tiling`.
"""

from collections.abc import Sequence
from itertools import product
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from hardware_sim import proxy
from hardware_sim.accelerator import Accelerator, ByteCount, ClockHz, NonNegative, PicoJoules, resolve_batch
from hardware_sim.bit_fusion_activity import Activity
from hardware_sim.bit_fusion_lowering import Call, Groups, WriteBack, lower
from hardware_sim.bit_fusion_nest import PARTIAL_BITS, FusionArray, Mode, Work, performance
from hardware_sim.bit_fusion_tiling import find_schedule
from hardware_sim.cost import Bits, CostTable, UnsupportedError
from hardware_sim.energy import PICO
from hardware_sim.integers import INTEGER_BITS, along_widths
from hardware_sim.layer import Layer

# With a single row, keeping outputs in place would not always move the fewest bits, as the model assumes.
Rows = Annotated[int, Field(strict=True, ge=2, le=65536)]
Columns = Annotated[int, Field(strict=True, ge=1, le=65536)]
ENERGY_NOTE = "energy rests on synthesis, CACTI and memory figures for 45 nm, not on a measured chip"
NOTES: dict[Mode, tuple[str, ...]] = {
    "as-published": (
        "results are written and read back as 32 bits padded to whole columns, as in the published simulator",
        ENERGY_NOTE,
    ),
    "corrected": (
        "writing a tensor is counted in the row of the first layer that reads it; where several layers read one tensor "
        "at different a_bits, the width of the first counts",
        ENERGY_NOTE,
    ),
}


class Buffer(BaseModel):
    """On-chip double buffer: one half is filled while the array reads the other one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: ByteCount
    read_pj_per_bit: PicoJoules
    write_pj_per_bit: PicoJoules


class BitFusion(Accelerator):
    """Array of `array_rows` x `array_columns` fusion units, each 16 bricks of 2 x 2 bits, with three buffers.

    A unit computes 1 MAC per cycle at 8 x 8 bits, 4 at 4 x 4, 16 at 2 x 2; widths round up to 2, 4 or 8 for arithmetic,
    while memory traffic has the real widths. Rows hold input channels, columns output channels. Outputs are accumulated
    in place, at 32 bits, which moves the fewest bits for two rows or more.

    `mode` defines how results are written to memory:

    - `as-published`, for validation: as in the simulator of the paper. Results are read and written as 32 bits, with
      channels padded to whole columns; weights are padded to whole rows; the zeros around an image are fetched.
    - `corrected`: nothing is padded in memory; partial sums leave the chip only if c_in is tiled and they do not fit;
      results are written once, at the width of the layer that reads them. That width is not known in the producer's
      row, so **a layer's row includes the writing of the tensors that it reads**, at its own a_bits; of several readers
      the first counts, which is exact where their widths agree. An output that no layer reads is written at 8 bits in
      its producer's row. At the end of a row the array waits for one tile of outputs at 8 bits, or for all pending
      writes if that is less.

    `groups` defines how grouped and depthwise convolutions run: `one-by-one`, a call for every group, as in the
    published simulator; or `shared`: groups with fewer output channels than the array has columns run side by side,
    taps of the kernel on the rows, each column with inputs of its own. HAQ's published MobileNet-V1 latencies imply the
    latter.

    Lowering of each kind of layer:

    - conv that reads the input of the network: im2col by the host, taps of the kernel on the rows;
    - conv_transpose: [k^2 c_out, c_in] at every input position; adding the overlaps is free;
    - linear: batch x positions count as the batch;
    - matmul: one call for every image and group; the second activation takes the place of the weights, at w_bits;
    - recurrent: one call per step, each of which fetches the weights, because it depends on the one before;
    - embedding: no arithmetic; the looked-up rows are read from memory at w_bits.

    Element-wise operations and pooling are free. Leakage, `static_w`, is counted for the duration of a layer; the
    published simulator has its figures but leaves it out of the energy.

    >>> buffer = {"bytes": 4096, "read_pj_per_bit": 0.02, "write_pj_per_bit": 0.03}
    >>> device = BitFusion(name="tiny", description="4 x 4 units", array_rows=4, array_columns=4, port_bits=64,
    ...                    clock_hz=1e6, weight_buffer=buffer, input_buffer=buffer, output_buffer=buffer,
    ...                    unit_pj_per_cycle=0.5, dram_pj_per_bit=15.0)
    >>> layer = Layer(name="fc", kind="linear", c_in=16, c_out=4)
    >>> device.table([layer]).layer_cost(0, 8, 8).cycles  # 8 + 2 to fetch, 4 to compute, 1 to write
    15.0
    """

    kind: Literal["bit_fusion"] = "bit_fusion"
    array_rows: Rows
    array_columns: Columns
    port_bits: Columns
    """Bits to or from memory per cycle."""
    clock_hz: ClockHz
    weight_buffer: Buffer
    input_buffer: Buffer
    output_buffer: Buffer
    unit_pj_per_cycle: PicoJoules
    """Energy of one fusion unit, used or not, in a cycle in which the array is busy."""
    dram_pj_per_bit: PicoJoules
    static_w: NonNegative = 0.0
    mode: Mode = "corrected"
    groups: Groups = "shared"

    @model_validator(mode="after")
    def _one_step_fits(self) -> Self:
        """Check that the buffers hold two tiles; a unit takes up to 32 bits of each operand per cycle."""
        units = {"weight": self.array_rows * self.array_columns, "input": self.array_rows, "output": self.array_columns}
        for operand, count in units.items():
            needed = 2 * count * PARTIAL_BITS // 8
            got = getattr(self, f"{operand}_buffer").bytes
            if got < needed:
                raise ValueError(f"{operand}_buffer of {got} bytes cannot hold one tile twice, which takes {needed}")
        return self

    @property
    def bytes_per_s(self) -> float:
        """Bandwidth of the port, reads and writes together."""
        return self.port_bits / 8 * self.clock_hz

    def peak_macs_per_s(self, w_bits: Bits, a_bits: Bits) -> float | None:
        """Rate with every unit busy at these widths; None for float, which is not supported."""
        if w_bits is None or a_bits is None:
            return None
        return self.array_rows * self.array_columns * performance(w_bits, a_bits) * self.clock_hz

    @property
    def array(self) -> FusionArray:
        """Parameters of the device for the search of schedules."""
        buffers = (self.weight_buffer, self.input_buffer, self.output_buffer)
        sizes, reads, writes = zip(
            *((8 * b.bytes, b.read_pj_per_bit, b.write_pj_per_bit) for b in buffers), strict=True
        )
        return FusionArray(
            rows=self.array_rows,
            columns=self.array_columns,
            port_bits=self.port_bits,
            buffer_bits=sizes,
            buffer_read_pj=reads,
            buffer_write_pj=writes,
            cycle_pj=self.unit_pj_per_cycle * self.array_rows * self.array_columns,
            dram_pj=self.dram_pj_per_bit,
            mode=self.mode,
        )

    def table(self, layers: Sequence[Layer], *, batch: int | None = None) -> CostTable:
        """Compute the cost of every layer at every pair of widths; NaN for float widths. Equal layers are priced once.

        Raises:
            UnsupportedError: No tile of a layer fits the buffers.
        """
        size = resolve_batch(self, batch)
        calls = self.calls(layers, batch=size)
        names = dict(zip(calls, (layer.name for layer in layers), strict=True))
        priced = {call: self._price(call, name) for call, name in names.items()}
        parts = np.array([priced[call] for call in calls], dtype=np.int64).reshape(-1, 8, 8, len(Activity._fields))
        activity = Activity(*np.moveaxis(parts, -1, 0))
        array, cycles = self.array, along_widths(activity.cycles)
        latency_s = cycles / self.clock_hz
        energy_pj = {"compute": activity.compute_pj, "sram": activity.sram_pj, "dram": activity.dram_pj}
        return CostTable(
            hardware=self.name,
            layers=tuple(layers),
            batch=size,
            cycles=cycles,
            latency_s=latency_s,
            energy_parts_j={
                **{name: along_widths(part(array)) * PICO for name, part in energy_pj.items()},
                "static": latency_s * self.static_w,
            },
            weight_bytes=proxy.weight_bytes(layers),
            bops=proxy.bops(layers),
            dram_bits=along_widths(activity.dram_bits),
            compute_bound=along_widths(activity.compute_cycles * self.port_bits >= activity.dram_bits) > 0,
            notes=NOTES[self.mode],
        )

    def calls(self, layers: Sequence[Layer], *, batch: int) -> tuple[Call, ...]:
        """Lower layers to calls of the array.

        Args:
            layers: Layers in the order of execution.
            batch: Number of images.

        Returns:
            One call per layer.
        """
        calls = lower(layers, batch, columns=self.array_columns, groups=self.groups)
        return calls if self.mode == "corrected" else tuple(call._replace(write_back=WriteBack()) for call in calls)

    def activity(self, call: Call, w_bits: int, a_bits: int) -> Activity | None:
        """Compute the activity of a call at a pair of widths.

        Args:
            call: A lowered layer.
            w_bits: Bits of the weights.
            a_bits: Bits of the input activations.

        Returns:
            Cycles and traffic of all repeats; None if no tile fits the buffers.
        """
        write_back_bits = call.write_back.bits(w_bits, a_bits)
        if call.nest is None:
            return self._copy(call.copied * w_bits, write_back_bits)
        share = -(-write_back_bits // call.repeats)
        schedule = find_schedule(self.array, Work(call.nest, w_bits, a_bits, share))
        if schedule is None:
            return None
        total = Activity(*(call.repeats * part for part in schedule.activity))
        return total._replace(dram_write_bits=total.dram_write_bits - call.repeats * share + write_back_bits)

    def _copy(self, read_bits: int, write_bits: int) -> Activity:
        cycles = -(-(read_bits + write_bits) // self.port_bits)
        return Activity(*np.array([cycles, 0, read_bits, write_bits, 0, 0, 0, 0, 0, 0]))

    def _price(self, call: Call, name: str) -> list[Activity]:
        """List the activity of all pairs of integer widths, a_bits varying fastest."""
        prices = []
        for w_bits, a_bits in product(INTEGER_BITS.tolist(), repeat=2):
            activity = self.activity(call, w_bits, a_bits)
            if activity is None:
                raise UnsupportedError(
                    f"{self.name} cannot run layer {name!r}: no tile at {w_bits} x {a_bits} bits fits its buffers"
                )
            prices.append(activity)
        return prices

"""BISMO, a bit-serial accelerator: one bit plane at a time, so that cycles grow with w_bits * a_bits.

The array and its arithmetic: Umuroglu, Rasnayake, Sjalander, "BISMO: A Scalable Bit-Serial Matrix Multiplication
Overlay for Reconfigurable Computing", FPL 2018. The schedule reproduces the latency table that HAQ (Wang et al., CVPR
2019) published for MobileNet-V2 cycle for cycle: it models HAQ's simulator, not a board.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from hardware_sim import proxy
from hardware_sim.accelerator import Accelerator, ClockHz, Count, resolve_batch
from hardware_sim.bit_serial_schedule import BinaryArray, ProductCost, price_products
from hardware_sim.cost import Bits, CostTable, FloatArray
from hardware_sim.energy import BoardPower
from hardware_sim.integers import INTEGER_BITS, along_widths
from hardware_sim.layer import Layer, LayerKind
from hardware_sim.lowering import Product, image_product, lookup_count

ArraySize = Annotated[int, Field(strict=True, ge=1, le=65536)]
VALIDATED_BATCHES = (1, 16)


def _one_by_one(image: Product, batch: int) -> tuple[Product, ...]:
    return (image._replace(repeats=batch * image.repeats),)


def _side_by_side(image: Product, batch: int) -> tuple[Product, ...]:
    return (image._replace(columns=batch * image.columns),)


def _packed(image: Product, batch: int) -> tuple[Product, ...]:
    """Arrange the images as blocks on the diagonal of one product."""
    return (image._replace(rows=batch * image.rows, depth=batch * image.depth),)


def _packed_or_one_by_one(image: Product, batch: int) -> tuple[Product, ...]:
    single = _one_by_one(image, batch)
    return single if image.repeats == 1 else _packed(image, batch) + single


BATCHING: Mapping[LayerKind, Callable[[Product, int], tuple[Product, ...]]] = {
    "conv": _packed_or_one_by_one,
    "depthwise": _packed,
    "conv_transpose": _one_by_one,
    "linear": _side_by_side,
    "matmul": _one_by_one,
    "recurrent": _side_by_side,
    "embedding": _one_by_one,
}
"""Ways to turn the product of one image into products of a batch; the one with the fewest cycles is used."""


class BitSerial(Accelerator):
    """Bit-serial array of `array_size` x `array_size` dot products, each `dot_bits` binary MACs wide.

    Weights and im2col activations arrive over two independent ports of `port_bits` a cycle and stay in two buffers of
    `buffer_words` words of `dot_bits`. Write-back, conversion to bit planes and instructions are free in this model.
    Layers are lowered to products as in `hardware_sim.lowering`. The images of a batch are processed one after the
    other in convolutions and matmuls, side by side in linear and recurrent layers, and packed block-diagonally in
    depthwise layers; groups of several channels use the cheaper of packed and one by one. Embedding rows are read over
    one port.

    >>> device = BitSerial(name="tiny", description="2 x 2 dot products", array_size=2, dot_bits=64, port_bits=64,
    ...                    buffer_words=64, clock_hz=1e6)
    >>> layer = Layer(name="fc", kind="linear", c_in=64, c_out=2)
    >>> device.table([layer]).layer_cost(0, 1, 1).cycles  # two rows of weights arrive in cycles 0 and 1
    2.0
    """

    kind: Literal["bit_serial"] = "bit_serial"
    array_size: ArraySize
    dot_bits: ArraySize
    port_bits: ArraySize
    buffer_words: Count
    clock_hz: ClockHz
    power: BoardPower | None = None
    """Data for the energy estimate; energy is not modelled when None."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.buffer_words < self.array_size:
            raise ValueError(
                f"buffer_words {self.buffer_words} cannot hold one tile: it takes a word for each of the "
                f"{self.array_size} rows of the array"
            )
        if self.power is not None:
            self.power.mac_energy_j(peak_macs_per_s=self._binary_macs_per_s, bytes_per_s=self.bytes_per_s)
        return self

    @property
    def _binary_macs_per_s(self) -> float:
        return self.array_size**2 * self.dot_bits * self.clock_hz

    @property
    def bytes_per_s(self) -> float:
        """Bandwidth of both read ports together."""
        return 2 * self.port_bits / 8 * self.clock_hz

    def peak_macs_per_s(self, w_bits: Bits, a_bits: Bits) -> float | None:
        """Binary MAC rate divided by w_bits * a_bits; None for float, which is not supported."""
        return None if w_bits is None or a_bits is None else self._binary_macs_per_s / (w_bits * a_bits)

    def table(self, layers: Sequence[Layer], *, batch: int | None = None) -> CostTable:
        """Compute the cost of every layer at every pair of widths; NaN for float widths."""
        size = resolve_batch(self, batch)
        price = self._prices(layers, size)
        latency_s = along_widths(price.cycles / self.clock_hz)
        dram_bits = along_widths(self.port_bits * (price.left_beats + price.right_beats))
        binary_macs = size * proxy.bops(layers)
        return CostTable(
            hardware=self.name,
            layers=tuple(layers),
            batch=size,
            cycles=along_widths(price.cycles),
            latency_s=latency_s,
            energy_parts_j=self._energy_parts_j(binary_macs, latency_s=latency_s, dram_bits=dram_bits),
            weight_bytes=proxy.weight_bytes(layers),
            bops=proxy.bops(layers),
            dram_bits=dram_bits,
            compute_bound=along_widths(price.compute_cycles > np.maximum(price.left_beats, price.right_beats)) > 0,
            notes=self._notes(size),
        )

    def _prices(self, layers: Sequence[Layer], batch: int) -> ProductCost:
        """ProductCost every layer with its cheapest lowering at each pair of widths, [layer, 8, 8]."""
        array = BinaryArray(self.array_size, self.dot_bits, self.port_bits, self.buffer_words)
        ways = [BATCHING[layer.kind](image_product(layer), batch) for layer in layers]
        priced = price_products(array, [product for way in ways for product in way])
        starts = np.cumsum([0, *map(len, ways)])
        result = ProductCost(*np.zeros((4, len(layers), 8, 8), dtype=np.int64))
        for index, layer in enumerate(layers):
            price = ProductCost(*(part[starts[index] : starts[index + 1]] for part in priced))
            choice = price.cycles.argmin(axis=0)[None]
            for target, part in zip(result, price, strict=True):
                target[index] = np.take_along_axis(part, choice, axis=0)[0]
            lookup_beats = -(-lookup_count(layer, batch) * INTEGER_BITS[:, None] // self.port_bits)
            result.cycles[index] += lookup_beats
            result.left_beats[index] += lookup_beats
        return result

    def _energy_parts_j(
        self, binary_macs: FloatArray, *, latency_s: FloatArray, dram_bits: FloatArray
    ) -> dict[str, FloatArray]:
        if self.power is None:
            return {}
        mac_j = self.power.mac_energy_j(peak_macs_per_s=self._binary_macs_per_s, bytes_per_s=self.bytes_per_s)
        return {
            "compute": np.where(np.isnan(latency_s), np.nan, binary_macs * mac_j),
            "dram": dram_bits * self.power.dram_pj_per_bit * 1e-12,
            "static": latency_s * self.power.static_w,
        }

    def _notes(self, batch: int) -> tuple[str, ...]:
        notes = ["latency follows HAQ's BISMO simulator, in which write-back and bit-plane conversion cost nothing"]
        if batch not in VALIDATED_BATCHES:
            notes.append(f"the packing of grouped layers at batch {batch} is extrapolated from batches 1 and 16")
        if self.power is not None:
            notes.append(f"energy is an estimate: {self.power.assumption}")
        return tuple(notes)

"""Roofline model: compute time against memory time, and devices that are described by these two limits alone.

The model: Williams, Waterman, Patterson, "Roofline: An Insightful Visual Performance Model for Multicore
Architectures", CACM 2009.
"""

from collections.abc import Sequence
from itertools import product
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from hardware_sim import proxy
from hardware_sim.accelerator import Accelerator, BytesPerS, Fraction, MacsPerS, PicoJoules, Watts, resolve_batch
from hardware_sim.cost import WIDTHS, Bits, CostTable, FloatArray
from hardware_sim.energy import MAC_FLOAT16_PJ, MAC_FLOAT32_PJ, PICO, integer_mac_energy_j
from hardware_sim.layer import Layer
from hardware_sim.traffic import moved_bits, moved_elements


def compute_time_s(macs: FloatArray, macs_per_s: FloatArray) -> FloatArray:
    """Compute the time of the arithmetic at the peak rate.

    Args:
        macs: Multiply-accumulates.
        macs_per_s: Peak rate, broadcast against `macs`.

    Returns:
        Seconds.
    """
    return macs / macs_per_s


def memory_time_s(dram_bits: FloatArray, bytes_per_s: float) -> FloatArray:
    """Compute the time of the memory traffic at full bandwidth.

    Args:
        dram_bits: Bits read from and written to main memory.
        bytes_per_s: Bandwidth.

    Returns:
        Seconds, of the shape of `dram_bits`.
    """
    return dram_bits / 8 / bytes_per_s


def arithmetic_intensity(macs: FloatArray, dram_bits: FloatArray) -> FloatArray:
    """Compute the arithmetic intensity, the horizontal axis of the roofline.

    Args:
        macs: Multiply-accumulates.
        dram_bits: Bits read from and written to main memory.

    Returns:
        MACs per byte.

    Example:
        >>> arithmetic_intensity(np.array([100.0]), np.array([400.0])).tolist()
        [2.0]
    """
    return 8 * macs / dram_bits


def attainable_macs_per_s(intensity: FloatArray, *, macs_per_s: float, bytes_per_s: float) -> FloatArray:
    """Compute the roofline: the lower of memory bound and compute bound at an arithmetic intensity.

    Args:
        intensity: MACs per byte.
        macs_per_s: Peak rate.
        bytes_per_s: Memory bandwidth.

    Returns:
        Attainable rate in MACs per second.

    Example:
        >>> attainable_macs_per_s(np.array([1.0, 10.0]), macs_per_s=50, bytes_per_s=10).tolist()
        [10.0, 50.0]
    """
    return np.minimum(macs_per_s, intensity * bytes_per_s)


class Precision(BaseModel):
    """Data type of the multipliers: integers of up to `bits` bits; with `is_float` also float layers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bits: Annotated[int, Field(strict=True, ge=1, le=32)]
    macs_per_s: MacsPerS
    is_float: Annotated[bool, Field(strict=True)] = False
    efficiency: Fraction = 1.0
    """Fraction of `macs_per_s` that is reached in measurements."""

    def supports(self, bits: Bits) -> bool:
        """Check whether an operand of this width can be computed in this type.

        Args:
            bits: Width of the operand; None for float.

        Returns:
            Whether it can.
        """
        return self.is_float if bits is None else bits <= self.bits

    @property
    def mac_energy_j(self) -> float:
        """Joules of one MAC in this type."""
        if self.is_float:
            return (MAC_FLOAT16_PJ if self.bits <= 16 else MAC_FLOAT32_PJ) * PICO
        return float(integer_mac_energy_j(self.bits, self.bits))


class Roofline(Accelerator):
    """Processor limited by arithmetic or by main memory, whichever takes longer, with perfect overlap.

    Both operands round up to the narrowest type that supports the wider of them, and are stored in that type. Each
    element is moved once: weights and inputs of a layer, and its output in the row of the first layer that reads it.
    Launch times, caches and partly filled tiles are free.
    """

    kind: Literal["roofline"] = "roofline"
    precisions: Annotated[tuple[Precision, ...], Field(min_length=1)]
    memory_bytes_per_s: BytesPerS
    dram_pj_per_bit: PicoJoules
    static_w: Watts

    @model_validator(mode="after")
    def _narrowest_first(self) -> Self:
        bits = [precision.bits for precision in self.precisions]
        if bits != sorted(set(bits)):
            raise ValueError(f"precisions must be in order of increasing bits, got {', '.join(map(str, bits))}")
        return self

    @property
    def bytes_per_s(self) -> float:
        """Bandwidth of main memory."""
        return self.memory_bytes_per_s

    def precision(self, w_bits: Bits, a_bits: Bits) -> Precision | None:
        """Return the type in which a pair of widths is computed.

        Args:
            w_bits: Bits of the weights; None for float.
            a_bits: Bits of the input activations; None for float.

        Returns:
            The narrowest type that supports both; None if there is none.
        """
        return next((one for one in self.precisions if one.supports(w_bits) and one.supports(a_bits)), None)

    def peak_macs_per_s(self, w_bits: Bits, a_bits: Bits) -> float | None:
        """Peak rate of the type of a pair of widths, multiplied by its efficiency; None if no type supports both."""
        precision = self.precision(w_bits, a_bits)
        return None if precision is None else precision.macs_per_s * precision.efficiency

    def table(self, layers: Sequence[Layer], *, batch: int | None = None) -> CostTable:
        """Compute the cost of every layer at every pair of widths; NaN where no type supports both."""
        size = resolve_batch(self, batch)
        macs = size * np.array([layer.macs for layer in layers], dtype=np.float64)[:, None, None]
        rate, stored, mac_j = self._by_widths()
        dram_bits = moved_bits(moved_elements(layers, size), stored, stored).total
        compute_s, memory_s = compute_time_s(macs, rate), memory_time_s(dram_bits, self.memory_bytes_per_s)
        latency_s = np.maximum(compute_s, memory_s)
        return CostTable(
            hardware=self.name,
            layers=tuple(layers),
            batch=size,
            cycles=None,
            latency_s=latency_s,
            energy_parts_j={
                "compute": macs * mac_j,
                "dram": dram_bits * self.dram_pj_per_bit * PICO,
                "static": latency_s * self.static_w,
            },
            weight_bytes=proxy.weight_bytes(layers),
            bops=proxy.bops(layers),
            dram_bits=dram_bits,
            compute_bound=compute_s > memory_s,
            notes=(
                "latency is a lower bound: each element moves once, nothing but arithmetic and main memory takes time",
                "energy is an estimate: 45 nm arithmetic, memory by the bit, assumed static power; caches not counted",
            ),
        )

    def _by_widths(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Compute MAC/s, stored bits and joules per MAC, each [w_bits, a_bits]; NaN where no type supports both."""
        result = np.full((3, len(WIDTHS), len(WIDTHS)), np.nan)
        for (row, w_bits), (column, a_bits) in product(enumerate(WIDTHS), enumerate(WIDTHS)):
            one = self.precision(w_bits, a_bits)
            if one is not None:
                result[:, row, column] = one.macs_per_s * one.efficiency, one.bits, one.mac_energy_j
        rate, stored, mac_j = result
        return rate, stored, mac_j

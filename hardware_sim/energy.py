"""Energy per multiply-accumulate and per bit of memory traffic, and estimates from the power of a board.

Operations and on-chip memories are those of a 45 nm process at 0.9 V, from memory of Horowitz, "Computing's Energy
Problem", ISSCC 2014. Newer processes need less: totals are estimates, meant for comparisons within one device.
"""

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict

from hardware_sim.accelerator import MacsPerS, PicoJoules, Watts
from hardware_sim.cost import FloatArray

PICO = 1e-12
MULTIPLY_INT8_PJ = 0.2
ADD_INT32_PJ = 0.1
MAC_FLOAT16_PJ = 1.1 + 0.4
MAC_FLOAT32_PJ = 3.7 + 0.9
SRAM_BYTES = (8 * 2**10, 32 * 2**10, 2**20)
SRAM_PJ_PER_BIT = (0.16, 0.31, 1.6)


def integer_mac_energy_j(w_bits: ArrayLike, a_bits: ArrayLike) -> FloatArray:
    """Compute the energy of an integer MAC: a multiplier that scales with both widths, and a 32-bit accumulator.

    Args:
        w_bits: Bits of the weights.
        a_bits: Bits of the activations, broadcast against `w_bits`.

    Returns:
        Joules, of the broadcast shape.

    Example:
        >>> float(round(integer_mac_energy_j(8, 8) / PICO, 3)), float(round(integer_mac_energy_j(4, 4) / PICO, 3))
        (0.3, 0.15)
    """
    product = np.asarray(w_bits, dtype=np.float64) * np.asarray(a_bits, dtype=np.float64)
    return np.asarray((MULTIPLY_INT8_PJ * product / 64 + ADD_INT32_PJ) * PICO)


def sram_energy_j_per_bit(capacity_bytes: int) -> float:
    """Compute the energy of reading or writing one bit of an on-chip memory.

    A power law between the known sizes, and constant beyond: larger memories are built of banks, so that they cost no
    more than the largest known one.

    Args:
        capacity_bytes: Size of the memory.

    Returns:
        Joules per bit.

    Example:
        >>> round(sram_energy_j_per_bit(32 * 2**10) / PICO, 3), round(sram_energy_j_per_bit(2**24) / PICO, 3)
        (0.31, 1.6)
    """
    exponent = np.interp(np.log(capacity_bytes), np.log(SRAM_BYTES), np.log(SRAM_PJ_PER_BIT))
    return float(np.exp(exponent)) * PICO


class BoardPower(BaseModel):
    """Energy estimate from the only known figure of a board: its power at its peak rate of binary MACs.

    `board_w` at `board_macs_per_s` includes static power and memory traffic. A device that is faster than the board is
    limited to the board's power, so that no device ever draws more than `board_w`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    board_w: Watts
    board_macs_per_s: MacsPerS
    static_w: Watts
    dram_pj_per_bit: PicoJoules

    def mac_energy_j(self, *, peak_macs_per_s: float, bytes_per_s: float) -> float:
        """Compute the energy of one binary MAC.

        Board power minus static power and the power of memory at full bandwidth, divided by the peak rate.

        Args:
            peak_macs_per_s: Peak rate of binary MACs of the device.
            bytes_per_s: Memory bandwidth of the device.

        Returns:
            Joules.

        Raises:
            ValueError: Static power and memory exceed the power of the board.

        Example:
            >>> power = BoardPower(board_w=8.0, board_macs_per_s=6e12, static_w=1.5, dram_pj_per_bit=5.0)
            >>> round(power.mac_energy_j(peak_macs_per_s=1e12, bytes_per_s=12.5e9) / PICO, 9)
            1.0
        """
        dram_w = 8 * bytes_per_s * self.dram_pj_per_bit * PICO
        left_w = self.board_w - self.static_w - dram_w
        if left_w <= 0:
            raise ValueError(
                f"static_w {self.static_w:g} and {dram_w:g} W of memory together exceed board_w {self.board_w:g}"
            )
        return left_w / max(self.board_macs_per_s, peak_macs_per_s)

    @property
    def assumption(self) -> str:
        """The assumption behind the estimate, in one clause."""
        return (
            f"{self.board_w:g} W for {self.board_macs_per_s:.3g} binary MAC/s is the board's, "
            f"the static share of {self.static_w:g} W is assumed"
        )

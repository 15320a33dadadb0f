"""Joules: per multiply-accumulate by width, per bit by memory, and what can be estimated from a board's power.

Operations and on-chip memories are those of a 45 nm process at 0.9 V, from memory of Horowitz, "Computing's Energy
Problem", ISSCC 2014. Newer processes need less: totals are estimates, comparisons within one device are meant.
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
    """Joules of an integer MAC: a multiplier that scales with both widths, and a 32-bit accumulator.

    >>> float(round(integer_mac_energy_j(8, 8) / PICO, 3)), float(round(integer_mac_energy_j(4, 4) / PICO, 3))
    (0.3, 0.15)
    """
    product = np.asarray(w_bits, dtype=np.float64) * np.asarray(a_bits, dtype=np.float64)
    return np.asarray((MULTIPLY_INT8_PJ * product / 64 + ADD_INT32_PJ) * PICO)


def sram_energy_j_per_bit(capacity_bytes: int) -> float:
    """Joules to read or write one bit of an on-chip memory: a power law between the known sizes, constant beyond.

    Larger memories are built of banks, which is why they cost no more than the largest one known.

    >>> round(sram_energy_j_per_bit(32 * 2**10) / PICO, 3), round(sram_energy_j_per_bit(2**24) / PICO, 3)
    (0.31, 1.6)
    """
    exponent = np.interp(np.log(capacity_bytes), np.log(SRAM_BYTES), np.log(SRAM_PJ_PER_BIT))
    return float(np.exp(exponent)) * PICO


class BoardPower(BaseModel):
    """An estimate of energy from the one thing that is known of a board: its power at its peak rate of binary MACs.

    `board_w` at `board_macs_per_s` already contains static power and memory traffic. A device that is faster than the
    board is held to the board's power, so that no device ever draws more than `board_w`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    board_w: Watts
    board_macs_per_s: MacsPerS
    static_w: Watts
    dram_pj_per_bit: PicoJoules

    def mac_energy_j(self, *, peak_macs_per_s: float, bytes_per_s: float) -> float:
        """Joules of one binary MAC: what static and full-speed memory power leave, over the peak rate.

        Raises ValueError if they leave nothing.

        >>> power = BoardPower(board_w=8.0, board_macs_per_s=6e12, static_w=1.5, dram_pj_per_bit=5.0)
        >>> round(power.mac_energy_j(peak_macs_per_s=1e12, bytes_per_s=12.5e9) / PICO, 9)
        1.0
        """
        dram_w = 8 * bytes_per_s * self.dram_pj_per_bit * PICO
        left_w = self.board_w - self.static_w - dram_w
        if left_w <= 0:
            raise ValueError(
                f"static_w {self.static_w:g} and {dram_w:g} W of memory leave nothing of board_w {self.board_w:g}"
            )
        return left_w / max(self.board_macs_per_s, peak_macs_per_s)

    @property
    def assumption(self) -> str:
        """What the estimate rests on, in one clause."""
        return (
            f"{self.board_w:g} W for {self.board_macs_per_s:.3g} binary MAC/s is the board's, "
            f"the static share of {self.static_w:g} W is assumed"
        )

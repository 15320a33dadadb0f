"""Activity of BitFusion: cycles and moved bits of a loop nest, and the energy that they take."""

from typing import NamedTuple

import numpy as np

from hardware_sim.bit_fusion_nest import FusionArray
from hardware_sim.cost import FloatArray, IntArray


class Activity(NamedTuple):
    """Activity of a nest: cycles, and bits in and out of memory and of the buffers; arrays of one shape."""

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
        """Bits read from and written to main memory."""
        return self.dram_read_bits + self.dram_write_bits

    def compute_pj(self, array: FusionArray) -> FloatArray:
        """Compute the energy of the units, each of which draws power in every busy cycle of the array.

        Args:
            array: The array.

        Returns:
            Picojoules.
        """
        return np.asarray(self.compute_cycles * array.cycle_pj)

    def sram_pj(self, array: FusionArray) -> FloatArray:
        """Compute the energy of the buffers from the bits that each reads and writes.

        Args:
            array: The array.

        Returns:
            Picojoules.
        """
        reads = (self.weight_read_bits, self.input_read_bits, self.output_read_bits)
        writes = (self.weight_write_bits, self.input_write_bits, self.output_write_bits)
        bits = (*reads, *writes)
        costs = (*array.buffer_read_pj, *array.buffer_write_pj)
        return np.asarray(sum(cost * count for cost, count in zip(costs, bits, strict=True)))

    def dram_pj(self, array: FusionArray) -> FloatArray:
        """Compute the energy of main memory from the bits over the port.

        Args:
            array: The array.

        Returns:
            Picojoules.
        """
        return np.asarray(self.dram_bits * array.dram_pj)

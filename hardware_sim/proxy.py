"""Costs that need no hardware: the bytes of the weights and bit operations."""

from collections.abc import Sequence

import numpy as np

from hardware_sim.cost import WIDTH_BITS, CostTable, FloatArray
from hardware_sim.layer import Layer


def weight_bytes(layers: Sequence[Layer]) -> FloatArray:
    """Bytes of every layer's weights, [layer, w_bits, a_bits]: weight_count * w_bits / 8."""
    count = np.array([layer.weight_count for layer in layers], dtype=np.float64)
    size = count[:, None, None] * WIDTH_BITS[None, :, None] / 8
    return np.broadcast_to(size, (len(layers), len(WIDTH_BITS), len(WIDTH_BITS))).copy()


def bops(layers: Sequence[Layer]) -> FloatArray:
    """Bit operations of one image, [layer, w_bits, a_bits]: macs * w_bits * a_bits."""
    macs = np.array([layer.macs for layer in layers], dtype=np.float64)
    return np.asarray(macs[:, None, None] * WIDTH_BITS[None, :, None] * WIDTH_BITS[None, None, :])


def proxy_table(layers: Sequence[Layer], *, hardware: str = "proxy", batch: int = 1) -> CostTable:
    """A table of size and BOPs alone, for a search without a device."""
    return CostTable(
        hardware=hardware,
        layers=tuple(layers),
        batch=batch,
        cycles=None,
        latency_s=None,
        energy_parts_j={},
        weight_bytes=weight_bytes(layers),
        bops=bops(layers),
    )


def overhead_bytes(layer: Layer) -> int:
    """Bytes that come on top of a layer's weights when it is deployed in integers, whatever its bits.

    Input scale (4) and zero point (4) for every call; weight scale (4) and 32-bit bias (4) of each output channel once.
    """
    return 8 + (0 if layer.tied_to or layer.kind == "matmul" else 8 * layer.c_out)

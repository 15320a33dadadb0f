"""Hardware-independent costs: size of the weights and bit operations."""

from collections.abc import Sequence

import numpy as np

from hardware_sim.cost import WIDTH_BITS, CostTable, FloatArray
from hardware_sim.layer import Layer


def weight_bytes(layers: Sequence[Layer]) -> FloatArray:
    """Compute the size of every layer's weights: weight_count * w_bits / 8.

    Args:
        layers: The layers.

    Returns:
        Bytes [layer, w_bits, a_bits] along `WIDTHS`.
    """
    count = np.array([layer.weight_count for layer in layers], dtype=np.float64)
    size = count[:, None, None] * WIDTH_BITS[None, :, None] / 8
    return np.broadcast_to(size, (len(layers), len(WIDTH_BITS), len(WIDTH_BITS))).copy()


def bops(layers: Sequence[Layer]) -> FloatArray:
    """Compute the bit operations of one image: macs * w_bits * a_bits.

    Args:
        layers: The layers.

    Returns:
        Bit operations [layer, w_bits, a_bits] along `WIDTHS`.
    """
    macs = np.array([layer.macs for layer in layers], dtype=np.float64)
    return np.asarray(macs[:, None, None] * WIDTH_BITS[None, :, None] * WIDTH_BITS[None, None, :])


def proxy_table(layers: Sequence[Layer], *, hardware: str = "proxy", batch: int = 1) -> CostTable:
    """Create a cost table of size and BOPs alone, for a search without a device.

    Args:
        layers: The layers.
        hardware: Name of the device in messages.
        batch: Images processed at once.

    Returns:
        A table without cycles, latency and energy.
    """
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
    """Compute the bytes that a layer deployed in integers needs beyond its weights, at any width.

    Input scale (4) and zero point (4) for every call; weight scale (4) and 32-bit bias (4) of each output channel once.

    Args:
        layer: The layer.

    Returns:
        Number of bytes.
    """
    return 8 + (0 if layer.tied_to or not layer.has_weights else 8 * layer.c_out)

"""Flash and RAM of microcontrollers as limits of every policy."""

from collections.abc import Callable, Sequence

import numpy as np

from hardware_sim.cost import WIDTHS, FloatArray, Limit, width_index
from hardware_sim.layer import Layer
from hardware_sim.liveness import Live, live_elements
from hardware_sim.traffic import UNREAD_BITS

WIDEST = 8
"""Width of activations at which steps are compared."""


def flash_limit(layers: Sequence[Layer], bytes_by_width: FloatArray, *, flash_bytes: int) -> Limit:
    """Limit the weights to the flash memory.

    Args:
        layers: The layers.
        bytes_by_width: Stored bytes of a weight, along `WIDTHS`.
        flash_bytes: Size of the memory.

    Returns:
        The limit.
    """
    count = np.array([layer.weight_count for layer in layers], dtype=np.float64)
    table = count[:, None, None] * bytes_by_width[None, :, None] * np.ones(len(WIDTHS))
    return Limit(name="flash", unit="B", value=float(flash_bytes), table=table)


def ram_limits(
    layers: Sequence[Layer],
    bytes_by_width: FloatArray,
    *,
    batch: int,
    ram_bytes: int,
    scratch_bytes: Callable[[Layer], int],
) -> tuple[Limit, ...]:
    """Limit the activations that are live at the same time to the RAM.

    Args:
        layers: Layers in the order of execution.
        bytes_by_width: Stored bytes of an activation, along `WIDTHS`.
        batch: Images that are processed at once.
        ram_bytes: Size of the memory.
        scratch_bytes: Working memory of a layer.

    Returns:
        Limits of all steps that exceed the memory at the widest activations, and of the largest step.
    """
    limits = []
    for step, live in enumerate(live_elements(layers)):
        table = _step_bytes(layers, bytes_by_width, batch=batch, step=step, live=live)
        table[step] += scratch_bytes(layers[step])
        name = f"RAM at {layers[step].name}"
        limits.append(Limit(name=name, unit="B", value=float(ram_bytes), table=table))
    widest = width_index(WIDEST)
    peaks = [float(limit.table[:, widest, widest].sum()) for limit in limits]
    return tuple(limit for limit, peak in zip(limits, peaks, strict=True) if peak > ram_bytes or peak == max(peaks))


def _step_bytes(
    layers: Sequence[Layer], bytes_by_width: FloatArray, *, batch: int, step: int, live: Live
) -> FloatArray:
    table = np.zeros((len(layers), len(WIDTHS), len(WIDTHS)))
    for row, elements in live.by_reader.items():
        table[row] += batch * elements * bytes_by_width
    table[step] += batch * live.unread * UNREAD_BITS / 8
    return table

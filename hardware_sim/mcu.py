"""Microcontrollers with kernels for a few widths: narrow operands save memory, not time.

After CMix-NN (Capotondi, Rusci, Fariselli, Benini, "CMix-NN: Mixed Low-Precision CNN Library for Memory-Constrained
Edge Devices", IEEE TCAS-II 2020), whose kernels take 2, 4 or 8 bits for weights and activations independently.
"""

from collections.abc import Sequence
from math import prod
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from hardware_sim import proxy
from hardware_sim.accelerator import Accelerator, ByteCount, ClockHz, Positive, Watts, resolve_batch
from hardware_sim.cost import FLOAT_BITS, WIDTHS, Bits, CostTable, FloatArray, UnsupportedError
from hardware_sim.layer import Layer, LayerKind
from hardware_sim.mcu_memory import flash_limit, ram_limits

KERNEL_KINDS: tuple[LayerKind, ...] = ("conv", "depthwise", "linear")
IM2COL_BYTES = 2 * 2
"""Two columns of 16-bit values, which the kernels of CMSIS-NN and CMix-NN unfold before they multiply."""
KernelBits = Annotated[int, Field(strict=True, ge=1, le=8)]


class Mcu(Accelerator):
    """Core that runs a kernel of fixed cycles per MAC for every pair of supported widths.

    Widths round up to the next kernel's, for arithmetic and for storage. Weights must fit `flash_bytes` (without code
    and biases), and activations must fit `ram_bytes` at every step: one `Limit` per layer, over all tensors that are
    live while it runs and its im2col buffer. Tensors are counted in the rows of their readers, at their a_bits: a
    tensor with several readers once per reader, one without a reader at 8 bits, and one that a pooling operation
    shrinks at its original size. The limits are therefore never too loose.
    """

    kind: Literal["mcu"] = "mcu"
    kernel_bits: Annotated[tuple[KernelBits, ...], Field(min_length=1)]
    cycles_per_mac: tuple[tuple[Positive, ...], ...]
    """[weight kernel, activation kernel], in the order of `kernel_bits`."""
    clock_hz: ClockHz
    flash_bytes: ByteCount
    ram_bytes: ByteCount
    active_w: Watts
    """Power of core and memories while they compute."""

    @model_validator(mode="after")
    def _kernels_are_complete(self) -> Self:
        count = len(self.kernel_bits)
        if list(self.kernel_bits) != sorted(set(self.kernel_bits)):
            raise ValueError(f"kernel_bits must be increasing, got {', '.join(map(str, self.kernel_bits))}")
        if len(self.cycles_per_mac) != count or any(len(row) != count for row in self.cycles_per_mac):
            raise ValueError(f"cycles_per_mac needs {count} rows of {count} numbers, one for each of kernel_bits")
        return self

    def peak_macs_per_s(self, w_bits: Bits, a_bits: Bits) -> float | None:
        """Rate of the kernel for these widths; None where no kernel takes both."""
        w_kernel, a_kernel = self._kernel(w_bits), self._kernel(a_bits)
        if w_kernel is None or a_kernel is None:
            return None
        return self.clock_hz / self.cycles_per_mac[w_kernel][a_kernel]

    def table(self, layers: Sequence[Layer], *, batch: int | None = None) -> CostTable:
        """Compute the cost of every layer at every pair of widths; NaN where no kernel takes both.

        Raises:
            UnsupportedError: There is no kernel for a kind of layer.
        """
        size = resolve_batch(self, batch)
        for layer in layers:
            if layer.kind not in KERNEL_KINDS:
                known = ", ".join(KERNEL_KINDS)
                raise UnsupportedError(
                    f"{self.name} has no kernel for layer {layer.name!r} ({layer.kind}), only {known}"
                )
        macs = size * np.array([layer.macs for layer in layers], dtype=np.float64)[:, None, None]
        rates = [[self.peak_macs_per_s(w_bits, a_bits) for a_bits in WIDTHS] for w_bits in WIDTHS]
        latency_s = macs / np.array(rates, dtype=np.float64)
        return CostTable(
            hardware=self.name,
            layers=tuple(layers),
            batch=size,
            cycles=latency_s * self.clock_hz,
            latency_s=latency_s,
            energy_parts_j={"compute": latency_s * self.active_w},
            weight_bytes=proxy.weight_bytes(layers),
            bops=proxy.bops(layers),
            compute_bound=np.ones(latency_s.shape, dtype=np.bool_),
            limits=(
                flash_limit(layers, self._bytes_by_width(), flash_bytes=self.flash_bytes),
                *ram_limits(
                    layers,
                    self._bytes_by_width(),
                    batch=size,
                    ram_bytes=self.ram_bytes,
                    scratch_bytes=_im2col_bytes,
                ),
            ),
            notes=(
                "one rate for all layers at a pair of widths: trust the limits and the order of magnitude",
                "energy is an estimate: time multiplied by the active power",
            ),
        )

    def _kernel(self, bits: Bits) -> int | None:
        """Position in `kernel_bits` of the narrowest kernel that takes a width."""
        return next((index for index, width in enumerate(self.kernel_bits) if bits is not None and bits <= width), None)

    def _stored_bits(self, bits: Bits) -> int:
        kernel = self._kernel(bits)
        return (bits or FLOAT_BITS) if kernel is None else self.kernel_bits[kernel]

    def _bytes_by_width(self) -> FloatArray:
        """Bytes of one element along WIDTHS."""
        return np.array([self._stored_bits(bits) / 8 for bits in WIDTHS])


def _im2col_bytes(layer: Layer) -> int:
    return IM2COL_BYTES * prod(layer.kernel) * layer.c_in // layer.groups

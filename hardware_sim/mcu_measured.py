"""Microcontrollers whose instructions were counted on the kernels that they run."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, PrivateAttr, ValidationInfo, model_validator

from hardware_sim import proxy
from hardware_sim.accelerator import Accelerator, ByteCount, ClockHz, Watts, resolve_batch
from hardware_sim.cost import WIDTH_BITS, WIDTHS, Bits, CostTable, FloatArray, UnsupportedError
from hardware_sim.instruction_fit import InstructionFit, fit_instructions
from hardware_sim.instruction_table import MeasuredShape, Widths, read_shapes, shape_of
from hardware_sim.layer import Layer, LayerKind
from hardware_sim.mcu_memory import flash_limit, ram_limits

SCRATCH_BYTES: Mapping[LayerKind, int] = {"conv": 10, "linear": 4, "depthwise": 1}
"""Working memory of each kernel for every weight of a filter: unpacked filters, and windows at the border."""
SUM_BYTES = 4
"""Bytes of a sum; a depthwise kernel keeps those of a row of outputs."""


class MeasuredMcu(Accelerator):
    """Core that runs the C kernels of `haq export`, whose instructions were counted.

    Layers of a measured shape cost what was counted, others what a formula gives that is fitted to all measured
    layers of their kind, pair of widths by pair of widths. Widths that were not measured round up. The latency is
    instructions divided by the clock: an estimate, since instructions are not cycles.

    Weights are packed to their width and must fit `flash_bytes` (without code and biases). Activations of all widths
    are stored in bytes and must fit `ram_bytes` at every step: all tensors that are live while a layer runs, and its
    working memory.
    """

    kind: Literal["mcu_measured"] = "mcu_measured"
    table_file: Annotated[str, Field(min_length=1)]
    clock_hz: ClockHz
    flash_bytes: ByteCount
    ram_bytes: ByteCount
    active_w: Watts
    """Power of core and memories while they compute."""
    _shapes: tuple[MeasuredShape, ...] = PrivateAttr(default=())

    @model_validator(mode="after")
    def _read_table(self, info: ValidationInfo) -> Self:
        """Read the table; its path is relative to `info.context["folder"]`."""
        self._shapes = read_shapes(Path((info.context or {}).get("folder", "."), self.table_file))
        pairs = {frozenset(shape.instructions) for shape in self._shapes}
        if len(pairs) != 1:
            raise ValueError(f"{self.table_file} must have the same pairs of widths for every shape, and at least one")
        return self

    @property
    def shapes(self) -> tuple[MeasuredShape, ...]:
        """The measured shapes."""
        return self._shapes

    def peak_macs_per_s(self, w_bits: Bits, a_bits: Bits) -> float | None:
        """Rate of the fastest kernel without the work for outputs and weights; None for float."""
        widths = self._measured_widths(w_bits, a_bits)
        if widths is None:
            return None
        fitted = (float(fits[widths].coefficients[0]) for fits in self._fits.values())
        counted = (rows[widths] / layer.macs for layer, rows in self._shapes)
        # A kind whose instructions are explained by its outputs alone has no rate of its own.
        return self.clock_hz / min(each for each in (*fitted, *counted) if each > 0)

    def table(self, layers: Sequence[Layer], *, batch: int | None = None) -> CostTable:
        """Compute the cost of every layer at every pair of widths; NaN for float.

        Raises:
            UnsupportedError: No layer of this kind was measured.
        """
        size = resolve_batch(self, batch)
        shape = (len(layers), len(WIDTHS), len(WIDTHS))
        instructions = size * np.array([self._instructions(layer) for layer in layers]).reshape(shape)
        latency_s = instructions / self.clock_hz
        return CostTable(
            hardware=self.name,
            layers=tuple(layers),
            batch=size,
            cycles=None,
            latency_s=latency_s,
            energy_parts_j={"compute": latency_s * self.active_w},
            weight_bytes=proxy.weight_bytes(layers),
            bops=proxy.bops(layers),
            compute_bound=np.ones(shape, dtype=np.bool_),
            limits=(
                flash_limit(layers, WIDTH_BITS / 8, flash_bytes=self.flash_bytes),
                *ram_limits(
                    layers, np.ones(len(WIDTHS)), batch=size, ram_bytes=self.ram_bytes, scratch_bytes=_scratch_bytes
                ),
            ),
            notes=self._notes(layers),
        )

    def _notes(self, layers: Sequence[Layer]) -> tuple[str, ...]:
        known = {shape.layer for shape in self._shapes}
        fitted = sum(shape_of(layer) not in known for layer in layers)
        return (
            f"instructions of the exported kernels divided by {self.clock_hz / 1e6:g} MHz, an estimate of time: "
            "instructions are not cycles",
            *([f"{fitted} of {len(layers)} layers have shapes that were not measured: fitted"] if fitted else []),
            "additions, pooling and changes of width between layers are not counted",
            "energy is an estimate: time multiplied by the active power",
        )

    def _instructions(self, layer: Layer) -> FloatArray:
        """Instructions [w_bits, a_bits] of one image."""
        if layer.kind not in self._fits:
            known = ", ".join(self._fits)
            raise UnsupportedError(f"{self.name} has no kernel for layer {layer.name!r} ({layer.kind}), only {known}")
        counted = self._counted.get(shape_of(layer))
        fits = self._fits[layer.kind]
        result = np.full((len(WIDTHS), len(WIDTHS)), np.nan)
        for at in np.ndindex(result.shape):
            widths = self._measured_widths(WIDTHS[at[0]], WIDTHS[at[1]])
            if widths is not None:
                result[at] = fits[widths].predict(layer) if counted is None else counted[widths]
        return result

    def _measured_widths(self, w_bits: Bits, a_bits: Bits) -> Widths | None:
        """Return the narrowest measured pair that holds both widths."""
        pairs = self._shapes[0].instructions
        if w_bits is None or a_bits is None:
            return None
        return min((pair for pair in pairs if pair[0] >= w_bits and pair[1] >= a_bits), key=_size, default=None)

    @cached_property
    def _counted(self) -> Mapping[Layer, Mapping[Widths, int]]:
        return dict(self._shapes)

    @cached_property
    def _fits(self) -> Mapping[LayerKind, Mapping[Widths, InstructionFit]]:
        kinds = dict.fromkeys(shape.layer.kind for shape in self._shapes)
        return {kind: self._fits_of(kind) for kind in kinds}

    def _fits_of(self, kind: LayerKind) -> Mapping[Widths, InstructionFit]:
        shapes = [shape for shape in self._shapes if shape.layer.kind == kind]
        layers = [shape.layer for shape in shapes]
        return {
            widths: fit_instructions(layers, [shape.instructions[widths] for shape in shapes])
            for widths in self._shapes[0].instructions
        }


def _size(widths: Widths) -> tuple[int, Widths]:
    return sum(widths), widths


def _scratch_bytes(layer: Layer) -> int:
    row = SUM_BYTES * layer.output_size[1] if layer.kind == "depthwise" else 0
    return SCRATCH_BYTES.get(layer.kind, 0) * prod(layer.kernel) * layer.c_in // layer.groups + row

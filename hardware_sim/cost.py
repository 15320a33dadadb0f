"""Cost tables: every layer at every pair of bit widths, and the cost of a policy as a sum over layers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from hardware_sim.layer import Layer

Objective = Literal["latency", "energy", "size", "bops"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
COST_FIELDS: Mapping[Objective, str] = {
    "latency": "latency_s",
    "energy": "energy_j",
    "size": "weight_bytes",
    "bops": "bops",
}
"""Attribute of a cost, and its key in files, that an objective minimises."""
Bits = int | None
WIDTHS: tuple[Bits, ...] = (1, 2, 3, 4, 5, 6, 7, 8, None)
"""Widths along both bit axes of a table, in order; None is float. `hardware_sim.integers.INTEGER_BITS` lacks it."""
FLOAT_BITS = 32
WIDTH_BITS = np.array([FLOAT_BITS if width is None else width for width in WIDTHS], dtype=np.int64)
POLICY_CHUNK = 4096
"""Policies that are summed at once: few enough to stay in the processor's cache, which is several times as fast."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class UnsupportedError(ValueError):
    """Something that a device cannot run, or has no cost for."""


def width_index(bits: Bits) -> int:
    """Return the position of a width along the bit axes of a table.

    Args:
        bits: 1 to 8, or None for float.

    Returns:
        Index into `WIDTHS`.

    Example:
        >>> width_index(1), width_index(8), width_index(None)
        (0, 7, 8)
    """
    return WIDTHS.index(bits)


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one layer or of a whole policy; None for quantities that the device does not model.

    Args:
        cycles: Clock cycles of the whole hardware batch.
        latency_s: Seconds of the whole batch.
        energy_j: Joules of the whole batch.
        weight_bytes: Size of the weights.
        bops: Bit operations of one image.
        macs: Multiply-accumulates of one image.
        energy_parts_j: `energy_j` split into compute, sram, dram and static.
    """

    cycles: float | None
    latency_s: float | None
    energy_j: float | None
    weight_bytes: float
    bops: float
    macs: int
    energy_parts_j: Mapping[str, float] = field(default_factory=dict)

    def of(self, objective: Objective) -> float | None:
        """Return the quantity that an objective minimises.

        Args:
            objective: Name of the objective.

        Returns:
            Seconds, joules, bytes or bit operations; None if the device does not model it.
        """
        value: float | None = getattr(self, COST_FIELDS[objective])
        return value


@dataclass(frozen=True, slots=True)
class Limit:
    """Capacity of a device that every policy must respect: the sum over layers of `table` is at most `value`."""

    name: str
    unit: str
    value: float
    table: FloatArray
    """[layer, w_bits, a_bits]"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTable:
    """Cost of every layer at every pair of widths: arrays [layer, w_bits, a_bits] with both bit axes along `WIDTHS`.

    An array is None for a quantity that the device does not model; an entry is NaN for a pair that it does not support.
    Cycles, seconds and joules are of the whole batch, BOPs of one image.
    """

    hardware: str
    layers: tuple[Layer, ...]
    batch: int
    cycles: FloatArray | None
    latency_s: FloatArray | None
    energy_parts_j: Mapping[str, FloatArray]
    weight_bytes: FloatArray
    bops: FloatArray
    dram_bits: FloatArray | None = None
    compute_bound: NDArray[np.bool_] | None = None
    limits: tuple[Limit, ...] = ()
    notes: tuple[str, ...] = ()
    """Caveats for readers of the numbers: estimates, figures from memory, extrapolation."""

    @property
    def energy_j(self) -> FloatArray | None:
        """Joules [layer, w_bits, a_bits], the sum of the parts; None if energy is not modelled."""
        return sum(self.energy_parts_j.values(), np.zeros_like(self.bops)) if self.energy_parts_j else None

    def of(self, objective: Objective) -> FloatArray:
        """Return the table that an objective minimises.

        Args:
            objective: Name of the objective.

        Returns:
            Array [layer, w_bits, a_bits] in seconds, joules, bytes or bit operations.

        Raises:
            UnsupportedError: The device does not model the objective.
        """
        table: FloatArray | None = getattr(self, COST_FIELDS[objective])
        if table is None:
            modelled = [name for name in OBJECTIVES if _is_modelled(self, name)]
            raise UnsupportedError(f"{self.hardware} does not model {objective}; it models {', '.join(modelled)}")
        return table

    def bound(self, layer: int, w_bits: Bits, a_bits: Bits) -> str | None:
        """Return what limits the latency of a layer.

        Args:
            layer: Position of the layer.
            w_bits: Bits of the weights; None for float.
            a_bits: Bits of the input activations; None for float.

        Returns:
            "compute" or "memory"; None if the device does not model it.
        """
        if self.compute_bound is None:
            return None
        return "compute" if self.compute_bound[layer, width_index(w_bits), width_index(a_bits)] else "memory"

    def layer_cost(self, layer: int, w_bits: Bits, a_bits: Bits) -> Cost:
        """Return the cost of one layer at one pair of widths.

        Args:
            layer: Position of the layer.
            w_bits: Bits of the weights; None for float.
            a_bits: Bits of the input activations; None for float.

        Returns:
            The cost of the layer.

        Raises:
            UnsupportedError: The device has no cost for this pair; the message names layer and widths.
        """
        at = (layer, width_index(w_bits), width_index(a_bits))
        parts = {name: float(part[at]) for name, part in self.energy_parts_j.items()}
        cost = Cost(
            cycles=None if self.cycles is None else float(self.cycles[at]),
            latency_s=None if self.latency_s is None else float(self.latency_s[at]),
            energy_j=sum(parts.values()) if parts else None,
            weight_bytes=float(self.weight_bytes[at]),
            bops=float(self.bops[at]),
            macs=self.layers[layer].macs,
            energy_parts_j=parts,
        )
        if any(value is not None and np.isnan(value) for value in (cost.cycles, cost.latency_s, cost.energy_j)):
            pair = " x ".join("float" if bits is None else f"{bits} bits" for bits in (w_bits, a_bits))
            raise UnsupportedError(f"{self.hardware} has no cost for layer {self.layers[layer].name!r} at {pair}")
        return cost

    def policy_cost(self, w_bits: Sequence[Bits], a_bits: Sequence[Bits]) -> Cost:
        """Compute the cost of a policy as the sum over its layers.

        Args:
            w_bits: Bits of the weights of every layer.
            a_bits: Bits of the input activations of every layer.

        Returns:
            The summed cost.

        Raises:
            UnsupportedError: The device has no cost for a layer at its widths.
            ValueError: The number of bits differs from the number of layers.
        """
        if not len(w_bits) == len(a_bits) == len(self.layers):
            raise ValueError(f"{len(self.layers)} layers need as many bits, got {len(w_bits)} and {len(a_bits)}")
        return total(self.layer_cost(layer, *bits) for layer, bits in enumerate(zip(w_bits, a_bits, strict=True)))

    def totals(self, objective: Objective, w_index: IntArray, a_index: IntArray) -> FloatArray:
        """Compute an objective's cost of many policies at once.

        Args:
            objective: Name of the objective.
            w_index: Positions along `WIDTHS` (`width_index`) of the weights, [..., layer].
            a_index: The same for the activations, [..., layer].

        Returns:
            Costs [...]; NaN for a policy with a pair that the device does not support.

        Raises:
            ValueError: A position is outside of `WIDTHS`.
        """
        w_index, a_index = np.broadcast_arrays(w_index, a_index)
        for index in (w_index, a_index):
            if index.size and not 0 <= index.min() <= index.max() < len(WIDTHS):
                raise ValueError(
                    f"positions along WIDTHS are 0 to {len(WIDTHS) - 1}, got {index.min()} to {index.max()}"
                )
        costs = self.of(objective).ravel()
        first = np.arange(len(self.layers)) * len(WIDTHS) ** 2
        result = np.empty(w_index.shape[:-1])
        flat_w, flat_a = (index.reshape(-1, len(self.layers)) for index in (w_index, a_index))
        for start in range(0, len(flat_w), POLICY_CHUNK):
            some = slice(start, start + POLICY_CHUNK)
            at = first + len(WIDTHS) * flat_w[some].astype(np.int64) + flat_a[some]
            result.reshape(-1)[some] = costs.take(at).sum(axis=-1)
        return result


class CostModel(Protocol):
    """Anything that can price layers: a simulator, a measured table, a proxy."""

    @property
    def name(self) -> str:
        """Name of the device."""
        ...

    def table(self, layers: Sequence[Layer], *, batch: int | None = None) -> CostTable:
        """Compute the cost of every layer at every pair of widths.

        Args:
            layers: Layers in the order of execution.
            batch: Images processed at once; the hardware's own batch when None.

        Returns:
            Cost of every layer at every pair of widths.

        Raises:
            UnsupportedError: The model cannot price a kind of layer; the message names the layer.
        """
        ...


def total(costs: Iterable[Cost]) -> Cost:
    """Add costs up; a quantity that one of them lacks is missing in the sum.

    Args:
        costs: Costs of layers.

    Returns:
        The sum.
    """
    parts = list(costs)
    return Cost(
        cycles=_sum(cost.cycles for cost in parts),
        latency_s=_sum(cost.latency_s for cost in parts),
        energy_j=_sum(cost.energy_j for cost in parts),
        weight_bytes=fsum(cost.weight_bytes for cost in parts),
        bops=fsum(cost.bops for cost in parts),
        macs=sum(cost.macs for cost in parts),
        energy_parts_j={
            name: sum(cost.energy_parts_j[name] for cost in parts)
            for name in (parts[0].energy_parts_j if parts else ())
        },
    )


def _sum(values: Iterable[float | None]) -> float | None:
    terms = list(values)
    return None if any(value is None for value in terms) else fsum(value for value in terms if value is not None)


def _is_modelled(table: CostTable, objective: Objective) -> bool:
    return getattr(table, COST_FIELDS[objective]) is not None

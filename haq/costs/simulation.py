"""Cost of a policy on a device, layer by layer and in total: the document that `haq simulate --json` prints."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from haq.costs.unpriced import Refused
from haq.errors import UserError
from haq.formatting import counted, format_bytes
from haq.layer_bits import LayerBits
from haq.policy import Policy
from hardware_sim.cost import COST_FIELDS, Bits, Cost, CostTable, Objective, total, width_index
from hardware_sim.layer import Layer, LayerKind
from hardware_sim.proxy import overhead_bytes

Count = int | float
"""Whole numbers are integers; some devices have fractions of a cycle."""


@dataclass(frozen=True, slots=True)
class LayerCost:
    """Cost of one layer.

    Attributes:
        name: Name of the layer.
        kind: Kind of the layer.
        macs: Multiply-accumulates of one image.
        w_bits: Bits of the weights; None is float.
        a_bits: Bits of the input activations; None is float.
        cycles: Clock cycles of the batch. Like the other costs None if the device does not model it.
        latency_s: Seconds of the batch.
        energy_j: Joules of the batch.
        weight_bytes: Size of the weights.
        bops: Bit operations of one image.
        bound: Whether `compute` or `memory` limits the latency; None if the device does not tell.
    """

    name: str
    kind: LayerKind
    macs: int
    w_bits: Bits
    a_bits: Bits
    cycles: Count | None
    latency_s: float | None
    energy_j: float | None
    weight_bytes: float
    bops: Count
    bound: str | None


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the layers.

    Attributes:
        cycles: Clock cycles of the batch. Like the other costs None if the device does not model it.
        latency_s: Seconds of the batch.
        latency_per_image_s: The same over the size of the batch.
        energy_j: Joules of the batch.
        energy_per_image_j: The same over the size of the batch.
        energy_parts_j: Joules of the batch by where they are spent: compute, sram, dram, static.
        weight_bytes: Size of the weights.
        overhead_bytes: Size of scales, zero points and biases, which no budget limits.
        bops: Bit operations of one image.
        macs: Multiply-accumulates of one image.
    """

    cycles: Count | None
    latency_s: float | None
    latency_per_image_s: float | None
    energy_j: float | None
    energy_per_image_j: float | None
    energy_parts_j: Mapping[str, float]
    weight_bytes: float
    overhead_bytes: float
    bops: Count
    macs: int

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
class UsedLimit:
    """Capacity of a device, and what the whole network takes of it.

    Attributes:
        name: What is limited, such as flash.
        unit: Unit of the numbers.
        value: Capacity.
        used: What the network takes.
    """

    name: str
    unit: str
    value: float
    used: float

    @property
    def is_exceeded(self) -> bool:
        """Whether the network takes more than there is."""
        return self.used > self.value

    def __str__(self) -> str:
        """Describe how much of the capacity is taken.

        >>> str(UsedLimit("flash", "B", value=2048.0, used=4096.0))
        'flash: 4 KiB of 2 KiB'
        """
        used, value = (
            format_bytes(number) if self.unit == "B" else f"{number:.4g} {self.unit}"
            for number in (self.used, self.value)
        )
        return f"{self.name}: {used} of {value}"


@dataclass(frozen=True, slots=True)
class Simulation:
    """Cost of one policy on one device.

    Attributes:
        hardware: Name of the device.
        model: Name of the network.
        batch: Images that the device works on at once.
        first_and_last_layer_included: Whether layers and totals include the first and the last layer.
        layers: Costs of the layers.
        totals: Their sums.
        limits: Capacities of the device and what the whole network takes of them.
        refused: Parts of the network that have no price, so that the totals are not those of the whole.
        notes: Caveats of the device's numbers.
    """

    hardware: str
    model: str
    batch: int
    first_and_last_layer_included: bool
    layers: tuple[LayerCost, ...]
    totals: Totals
    limits: tuple[UsedLimit, ...]
    refused: tuple[Refused, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the document that `haq simulate --json` prints."""
        return {
            **asdict(self),
            "layers": [asdict(layer) for layer in self.layers],
            "limits": [asdict(limit) for limit in self.limits],
            "refused": refused_to_json(self.refused),
            "notes": list(self.notes),
        }


def simulation(
    model: str,
    table: CostTable,
    bits: Sequence[LayerBits],
    *,
    refused: Sequence[Refused] = (),
    exclude_first_last: bool = False,
) -> Simulation:
    """Compute what a policy costs on a device.

    Args:
        model: Name of the network.
        table: Costs of its layers on the device.
        bits: Bits of all layers.
        refused: Parts of the network that have no price.
        exclude_first_last: Whether to leave the first and the last layer out of layers and totals.

    Returns:
        The costs.

    Raises:
        UserError: No layer is left without the first and the last one.
        UnsupportedError: The device has no cost for some of the bits.
    """
    if exclude_first_last and len(bits) < 3:
        raise UserError(f"{model} has {counted(len(bits), 'layer')}: none is left without the first and the last")
    chosen = range(1, len(bits) - 1) if exclude_first_last else range(len(bits))
    costs = [table.layer_cost(layer, bits[layer].w_bits, bits[layer].a_bits) for layer in chosen]
    return Simulation(
        hardware=table.hardware,
        model=model,
        batch=table.batch,
        first_and_last_layer_included=not exclude_first_last,
        layers=tuple(_layer(table, layer, bits[layer], cost) for layer, cost in zip(chosen, costs, strict=True)),
        totals=_totals(table, total(costs), chosen),
        limits=used_limits(table, bits),
        refused=tuple(refused),
        notes=table.notes,
    )


def policy_bits(layers: tuple[Layer, ...], policy: Policy, model: str) -> tuple[LayerBits, ...]:
    """Return the bits of a policy after checking that it is for these layers.

    Args:
        layers: Layers of the network.
        policy: The policy.
        model: Name of the network, for the message.

    Returns:
        Bits of each layer.

    Raises:
        UserError: The policy is for other layers.
    """
    policy.check_fits(layers, model=model)
    return policy.layers


def used_limits(table: CostTable, bits: Sequence[LayerBits]) -> tuple[UsedLimit, ...]:
    """Return the device's capacities and what a policy of the whole network takes of them.

    Args:
        table: Costs of the layers on the device.
        bits: Bits of all layers.

    Returns:
        One per capacity.
    """
    at = (
        list(range(len(bits))),
        [width_index(layer.w_bits) for layer in bits],
        [width_index(layer.a_bits) for layer in bits],
    )
    return tuple(UsedLimit(limit.name, limit.unit, limit.value, float(limit.table[at].sum())) for limit in table.limits)


def refused_to_json(refused: Sequence[Refused]) -> list[dict[str, Any]]:
    """Return parts without a price as documents list them.

    Args:
        refused: The parts.

    Returns:
        Name and reason of each.
    """
    return [{"name": each.name, "reason": each.reason} for each in refused]


def _layer(table: CostTable, layer: int, bits: LayerBits, cost: Cost) -> LayerCost:
    return LayerCost(
        name=bits.name,
        kind=bits.kind,
        macs=cost.macs,
        w_bits=bits.w_bits,
        a_bits=bits.a_bits,
        cycles=None if cost.cycles is None else _whole(cost.cycles),
        latency_s=cost.latency_s,
        energy_j=cost.energy_j,
        weight_bytes=cost.weight_bytes,
        bops=_whole(cost.bops),
        bound=table.bound(layer, bits.w_bits, bits.a_bits),
    )


def _totals(table: CostTable, cost: Cost, chosen: range) -> Totals:
    return Totals(
        cycles=None if cost.cycles is None else _whole(cost.cycles),
        latency_s=cost.latency_s,
        latency_per_image_s=None if cost.latency_s is None else cost.latency_s / table.batch,
        energy_j=cost.energy_j,
        energy_per_image_j=None if cost.energy_j is None else cost.energy_j / table.batch,
        energy_parts_j=dict(cost.energy_parts_j),
        weight_bytes=cost.weight_bytes,
        overhead_bytes=sum(overhead_bytes(table.layers[layer]) for layer in chosen),
        bops=_whole(cost.bops),
        macs=cost.macs,
    )


def _whole(value: float) -> Count:
    """Return a count as an integer if it is a whole number."""
    return int(value) if value == int(value) else value

"""What bits cost on a device, layer by layer and in total: the documents that `haq simulate` prints."""

from collections.abc import Sequence
from typing import Any

from haq.costs.unpriced import Refused
from haq.errors import UserError
from haq.policy import LayerBits, Policy
from hardware_sim.cost import Cost, CostTable, total, width_index
from hardware_sim.layer import Layer
from hardware_sim.proxy import overhead_bytes


def policy_bits(layers: tuple[Layer, ...], policy: Policy, model: str) -> tuple[LayerBits, ...]:
    """The bits of a policy. Raises UserError unless it fits the network."""
    policy.check_fits(layers, model=model)
    return policy.layers


def simulation(
    model: str,
    table: CostTable,
    bits: Sequence[LayerBits],
    *,
    refused: Sequence[Refused] = (),
    exclude_first_last: bool = False,
) -> dict[str, Any]:
    """The document of one policy of a network that is called `model`; without the first and the last layer if asked.

    `refused` are the parts of the network that have no cost here, so that nobody takes the totals for the whole.
    Raises UserError if that leaves none, UnsupportedError for bits that the device does not know the cost of.
    """
    if exclude_first_last and len(bits) < 3:
        raise UserError(f"{model} has {len(bits)} layers: none is left without the first and the last")
    chosen = range(1, len(bits) - 1) if exclude_first_last else range(len(bits))
    costs = [table.layer_cost(layer, bits[layer].w_bits, bits[layer].a_bits) for layer in chosen]
    return {
        "hardware": table.hardware,
        "model": model,
        "batch": table.batch,
        "first_and_last_layer_included": not exclude_first_last,
        "layers": [_layer(table, layer, bits[layer], cost) for layer, cost in zip(chosen, costs, strict=True)],
        "totals": _totals(table, total(costs), chosen),
        "limits": limits(table, bits),
        "refused": [{"name": each.name, "reason": each.reason} for each in refused],
        "notes": list(table.notes),
    }


def limits(table: CostTable, bits: Sequence[LayerBits]) -> list[dict[str, Any]]:
    """What the device's own limits leave and what the whole network takes of them."""
    at = (
        list(range(len(bits))),
        [width_index(layer.w_bits) for layer in bits],
        [width_index(layer.a_bits) for layer in bits],
    )
    return [
        {"name": limit.name, "unit": limit.unit, "value": limit.value, "used": float(limit.table[at].sum())}
        for limit in table.limits
    ]


def _layer(table: CostTable, layer: int, bits: LayerBits, cost: Cost) -> dict[str, Any]:
    return {
        "name": bits.name,
        "kind": bits.kind,
        "macs": cost.macs,
        "w_bits": bits.w_bits,
        "a_bits": bits.a_bits,
        "cycles": _whole(cost.cycles),
        "latency_s": cost.latency_s,
        "energy_j": cost.energy_j,
        "weight_bytes": cost.weight_bytes,
        "bops": _whole(cost.bops),
        "bound": table.bound(layer, bits.w_bits, bits.a_bits),
    }


def _totals(table: CostTable, cost: Cost, chosen: range) -> dict[str, Any]:
    return {
        "cycles": _whole(cost.cycles),
        "latency_s": cost.latency_s,
        "latency_per_image_s": _share(cost.latency_s, table.batch),
        "energy_j": cost.energy_j,
        "energy_per_image_j": _share(cost.energy_j, table.batch),
        "energy_parts_j": dict(cost.energy_parts_j),
        "weight_bytes": cost.weight_bytes,
        "overhead_bytes": sum(overhead_bytes(table.layers[layer]) for layer in chosen),
        "bops": _whole(cost.bops),
        "macs": cost.macs,
    }


def _share(value: float | None, batch: int) -> float | None:
    return None if value is None else value / batch


def _whole(value: float | None) -> int | float | None:
    """A count as an integer where it is one; some devices have fractions of a cycle."""
    return int(value) if value is not None and value == int(value) else value

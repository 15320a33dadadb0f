"""What bits cost on a device, layer by layer and in total: the documents that `haq simulate` prints."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from haq.config import search_config
from haq.errors import UserError
from haq.policy import LayerBits, Policy, uniform_bits
from haq.problem import PricedModel, load_priced
from hardware_sim.cost import Cost, total
from hardware_sim.proxy import overhead_bytes


def simulate(
    model: nn.Module | str = "digits_cnn",
    policy: Policy | None = None,
    *,
    w_bits: int | None = 8,
    a_bits: int | None = 8,
    exclude_first_last: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Latency, energy, size and bit operations of a policy, or of uniform bits, on a device.

    `settings` are fields of `haq.config.SearchConfig`, such as hardware, batch and input. Returns the document that
    `haq simulate --json` prints. Raises UserError or UnsupportedError for what cannot be priced.

    >>> document = simulate("digits_cnn", hardware="bismo-edge", w_bits=4, a_bits=4)
    >>> document["totals"]["weight_bytes"] == sum(layer["weight_bytes"] for layer in document["layers"])
    True
    """
    name = model if isinstance(model, str) else type(model).__name__
    config = search_config(model=name, **settings)
    priced = load_priced(config, model=None if isinstance(model, str) else model)
    return simulation(priced, policy_bits(priced, policy, w_bits, a_bits), exclude_first_last=exclude_first_last)


def policy_bits(
    priced: PricedModel, policy: Policy | None, w_bits: int | None, a_bits: int | None
) -> tuple[LayerBits, ...]:
    """The bits of a policy, which must fit the network, or uniform ones."""
    if policy is None:
        return uniform_bits(priced.trace.layers, w_bits=w_bits, a_bits=a_bits)
    policy.check_fits(priced.trace.layers, model=priced.name)
    return policy.layers


def simulation(priced: PricedModel, bits: Sequence[LayerBits], *, exclude_first_last: bool = False) -> dict[str, Any]:
    """The document of one policy; without the first and the last layer if asked."""
    if exclude_first_last and len(bits) < 3:
        raise UserError(f"{priced.name} has {len(bits)} layers: none is left without the first and the last")
    chosen = range(1, len(bits) - 1) if exclude_first_last else range(len(bits))
    costs = [priced.table.layer_cost(layer, bits[layer].w_bits, bits[layer].a_bits) for layer in chosen]
    return {
        "hardware": priced.table.hardware,
        "model": priced.name,
        "batch": priced.table.batch,
        "first_and_last_layer_included": not exclude_first_last,
        "layers": [_layer(priced, layer, bits[layer], cost) for layer, cost in zip(chosen, costs, strict=True)],
        "totals": _totals(priced, total(costs), chosen),
        "notes": list(priced.table.notes),
    }


def _layer(priced: PricedModel, layer: int, bits: LayerBits, cost: Cost) -> dict[str, Any]:
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
        "bound": priced.table.bound(layer, bits.w_bits, bits.a_bits),
    }


def _totals(priced: PricedModel, cost: Cost, chosen: range) -> dict[str, Any]:
    batch = priced.table.batch
    return {
        "cycles": _whole(cost.cycles),
        "latency_s": cost.latency_s,
        "latency_per_image_s": _share(cost.latency_s, batch),
        "energy_j": cost.energy_j,
        "energy_per_image_j": _share(cost.energy_j, batch),
        "energy_parts_j": dict(cost.energy_parts_j),
        "weight_bytes": cost.weight_bytes,
        "overhead_bytes": sum(overhead_bytes(priced.trace.layers[layer]) for layer in chosen),
        "bops": _whole(cost.bops),
        "macs": cost.macs,
    }


def _share(value: float | None, batch: int) -> float | None:
    return None if value is None else value / batch


def _whole(value: float | None) -> int | float | None:
    """A count as an integer where it is one; some devices have fractions of a cycle."""
    return int(value) if value is not None and value == int(value) else value

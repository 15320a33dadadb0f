"""Costs of several policies on several devices: how much is gained by searching for a device's own policy."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from haq.costs.deployment import deployed_table
from haq.costs.pricing import BASELINE_BITS
from haq.costs.simulation import Count, LayerCost, Simulation, refused_to_json, simulation
from haq.costs.unpriced import Refused
from haq.layer_bits import LayerBits, uniform_bits
from hardware_sim.accelerator import Accelerator
from hardware_sim.cost import COST_FIELDS, CostTable, Objective, UnsupportedError
from hardware_sim.deployment_target import DeploymentTarget
from hardware_sim.layer import Layer

LIMITS_SHOWN = 2
"""Exceeded limits that a refusal names."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Policy to compare.

    Attributes:
        name: Name of the policy.
        bits: Bits of all layers.
        hardware: Device that it was searched for, if any.
        accuracy: Score on the report split, if known.
        metric: Name of the metric of the score.
    """

    name: str
    bits: tuple[LayerBits, ...]
    hardware: str | None = None
    accuracy: float | None = None
    metric: str = "accuracy"


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedNetwork:
    """Network whose policies are compared, and how they are priced.

    Attributes:
        model: Name of the network.
        layers: Its layers.
        refused: Parts of it that have no price.
        objective: Cost that is compared.
        batch: Images that devices work on at once; None for each device's own number.
        exclude_first_last: Whether to leave the first and the last layer out of the costs.
        target: Deployment target that stores the weights; None for none.
    """

    model: str
    layers: tuple[Layer, ...]
    refused: tuple[Refused, ...] = ()
    objective: Objective = "latency"
    batch: int | None = None
    exclude_first_last: bool = False
    target: DeploymentTarget | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyCost:
    """Total cost of one policy on one device. All numbers are None if the device cannot run it.

    Attributes:
        latency_s: Seconds of the batch.
        latency_per_image_s: The same over the size of the batch.
        energy_j: Joules of the batch.
        energy_per_image_j: The same over the size of the batch.
        weight_bytes: Size of the weights.
        bops: Bit operations of one image.
        memory_bound: Fraction of the latency in layers that memory limits; None if the device does not tell.
        ratio: Cost in the objective over that of 8 bits everywhere on the device; None if these have none.
        refused: Why there is no cost in the objective; None if there is one.
    """

    latency_s: float | None = None
    latency_per_image_s: float | None = None
    energy_j: float | None = None
    energy_per_image_j: float | None = None
    weight_bytes: float | None = None
    bops: Count | None = None
    memory_bound: float | None = None
    ratio: float | None = None
    refused: str | None = None

    def of(self, objective: Objective) -> float | None:
        """Return the quantity that an objective minimises.

        Args:
            objective: Name of the objective.

        Returns:
            Seconds, joules, bytes or bit operations; None if the policy has no such cost on the device.
        """
        value: float | None = getattr(self, COST_FIELDS[objective])
        return value


@dataclass(frozen=True, slots=True)
class ComparedDevice:
    """Device: its name, the images that it works on at once, and caveats of its numbers."""

    hardware: str
    batch: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ComparedPolicy:
    """Policy: its name, the device that it was searched for, and its score with the name of the metric."""

    name: str
    hardware: str | None
    accuracy: float | None
    metric: str


@dataclass(frozen=True, slots=True)
class Specialization:
    """Matrix of policies by devices.

    Attributes:
        model: Name of the network.
        objective: Cost that is compared.
        first_and_last_layer_included: Whether costs include the first and the last layer.
        devices: The columns.
        policies: The rows.
        refused: Parts of the network that have no price on any device.
        costs: Costs [policy][device].
    """

    model: str
    objective: Objective
    first_and_last_layer_included: bool
    devices: tuple[ComparedDevice, ...]
    policies: tuple[ComparedPolicy, ...]
    refused: tuple[Refused, ...]
    costs: tuple[tuple[PolicyCost, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the document that `haq simulate --compare --json` prints."""
        return {
            **asdict(self),
            "devices": [asdict(device) | {"notes": list(device.notes)} for device in self.devices],
            "policies": [asdict(policy) for policy in self.policies],
            "refused": refused_to_json(self.refused),
            "costs": [[asdict(cost) for cost in row] for row in self.costs],
        }


def specialization(
    network: PricedNetwork, candidates: Sequence[Candidate], devices: Sequence[Accelerator]
) -> Specialization:
    """Price every policy on every device (after HAQ, Wang et al., CVPR 2019).

    A device that cannot run the network, or a policy, has a reason in `PolicyCost.refused` instead of costs.

    Args:
        network: The network.
        candidates: Its policies.
        devices: The devices.

    Returns:
        The costs.
    """
    columns = [_column(network, candidates, device) for device in devices]
    return Specialization(
        model=network.model,
        objective=network.objective,
        first_and_last_layer_included=not network.exclude_first_last,
        devices=tuple(device for device, _ in columns),
        policies=tuple(ComparedPolicy(each.name, each.hardware, each.accuracy, each.metric) for each in candidates),
        refused=network.refused,
        costs=tuple(tuple(costs[row] for _, costs in columns) for row in range(len(candidates))),
    )


def _column(
    network: PricedNetwork, candidates: Sequence[Candidate], device: Accelerator
) -> tuple[ComparedDevice, list[PolicyCost]]:
    """Price all policies on one device."""
    try:
        table = deployed_table(device.table(network.layers, batch=network.batch), network.target)
    except UnsupportedError as error:
        refusals = [PolicyCost(refused=str(error)) for _ in candidates]
        return ComparedDevice(device.name, network.batch or device.batch, ()), refusals
    baseline = _baseline(network, table)
    costs = [_policy_cost(network, table, candidate.bits, baseline) for candidate in candidates]
    return ComparedDevice(device.name, table.batch, table.notes), costs


def _policy_cost(
    network: PricedNetwork, table: CostTable, bits: tuple[LayerBits, ...], baseline: float | None
) -> PolicyCost:
    try:
        found = _simulation(network, table, bits)
    except UnsupportedError as error:
        return PolicyCost(refused=str(error))
    exceeded = [limit for limit in found.limits if limit.is_exceeded]
    if exceeded:
        return PolicyCost(refused="; ".join(map(str, exceeded[:LIMITS_SHOWN])))
    totals = found.totals
    value = totals.of(network.objective)
    return PolicyCost(
        latency_s=totals.latency_s,
        latency_per_image_s=totals.latency_per_image_s,
        energy_j=totals.energy_j,
        energy_per_image_j=totals.energy_per_image_j,
        weight_bytes=totals.weight_bytes,
        bops=totals.bops,
        memory_bound=_memory_bound(found.layers),
        ratio=value / baseline if value is not None and baseline else None,
        refused=None if value is not None else f"{table.hardware} does not model {network.objective}",
    )


def _baseline(network: PricedNetwork, table: CostTable) -> float | None:
    """Return the cost of 8 bits everywhere; None if the device has no cost for them."""
    bits = uniform_bits(network.layers, w_bits=BASELINE_BITS, a_bits=BASELINE_BITS)
    try:
        return _simulation(network, table, bits).totals.of(network.objective)
    except UnsupportedError:
        return None


def _simulation(network: PricedNetwork, table: CostTable, bits: Sequence[LayerBits]) -> Simulation:
    return simulation(network.model, table, bits, exclude_first_last=network.exclude_first_last)


def _memory_bound(layers: Sequence[LayerCost]) -> float | None:
    """Return the fraction of the latency in layers that memory limits; None if the device does not tell."""
    known = [(layer.bound, layer.latency_s) for layer in layers if layer.bound is not None and layer.latency_s]
    whole = sum(latency_s for _, latency_s in known)
    return sum(latency_s for bound, latency_s in known if bound == "memory") / whole if whole else None

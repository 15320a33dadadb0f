"""What policies cost on several devices: a policy is made for one, and the others show what that was worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from haq.costs.simulation import simulation
from haq.costs.unpriced import Refused
from haq.formatting import format_bytes
from haq.policy import LayerBits, uniform_bits
from hardware_sim.accelerator import Accelerator
from hardware_sim.cost import CostTable, Objective, UnsupportedError
from hardware_sim.layer import Layer

BASELINE_BITS = 8
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A policy to compare; `hardware` is the device that it was searched for, `accuracy` that on the report split."""

    name: str
    bits: tuple[LayerBits, ...]
    hardware: str | None = None
    accuracy: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is compared: the costs in one objective of a network's layers."""

    model: str
    layers: tuple[Layer, ...]
    refused: tuple[Refused, ...] = ()
    objective: Objective = "latency"
    batch: int | None = None
    exclude_first_last: bool = False


def specialization(question: Question, candidates: Sequence[Candidate], devices: Sequence[Accelerator]) -> Json:
    """Every policy on every device, as `haq simulate --compare --json` prints it (after HAQ, Wang et al., CVPR 2019).

    `costs` is [policy][device]; its `ratio` is to 8 bits everywhere on the same device, None where that has no cost. A
    device that cannot run the network, or a policy, has a reason in its `refused`, and no costs. The `refused` of the
    whole are the parts of the network that nobody prices.
    """
    columns = [_column(question, candidates, device) for device in devices]
    return {
        "model": question.model,
        "objective": question.objective,
        "first_and_last_layer_included": not question.exclude_first_last,
        "devices": [{key: value for key, value in column.items() if key != "costs"} for column in columns],
        "policies": [{"name": each.name, "hardware": each.hardware, "accuracy": each.accuracy} for each in candidates],
        "refused": [{"name": each.name, "reason": each.reason} for each in question.refused],
        "costs": [[column["costs"][row] for column in columns] for row in range(len(candidates))],
    }


def _column(question: Question, candidates: Sequence[Candidate], device: Accelerator) -> Json:
    try:
        table = device.table(question.layers, batch=question.batch)
    except UnsupportedError as error:
        costs = [_refusal(str(error)) for _ in candidates]
        return {"hardware": device.name, "batch": question.batch or device.batch, "notes": [], "costs": costs}
    baseline = _baseline(question, table)
    costs = [_cell(question, table, candidate.bits, baseline) for candidate in candidates]
    return {"hardware": device.name, "batch": table.batch, "notes": list(table.notes), "costs": costs}


def _cell(question: Question, table: CostTable, bits: tuple[LayerBits, ...], baseline: float | None) -> Json:
    try:
        document = simulation(question.model, table, bits, exclude_first_last=question.exclude_first_last)
    except UnsupportedError as error:
        return _refusal(str(error))
    exceeded = [limit for limit in document["limits"] if limit["used"] > limit["value"]]
    if exceeded:
        return _refusal("; ".join(limit_text(limit) for limit in exceeded[:2]))
    totals = document["totals"]
    value = of_objective(totals, question.objective)
    return {
        **{key: totals[key] for key in _NUMBERS},
        "memory_bound": _memory_bound(document["layers"]),
        "ratio": value / baseline if value is not None and baseline else None,
        "refused": None if value is not None else f"{table.hardware} does not model {question.objective}",
    }


_NUMBERS = ("latency_s", "latency_per_image_s", "energy_j", "energy_per_image_j", "weight_bytes", "bops")
_KEYS: Mapping[Objective, str] = {
    "latency": "latency_s",
    "energy": "energy_j",
    "size": "weight_bytes",
    "bops": "bops",
}


def of_objective(totals: Mapping[str, Any], objective: Objective) -> float | None:
    """The number that an objective minimises, None where it is not modelled.

    >>> of_objective({"latency_s": 0.5, "energy_j": None}, "energy") is None
    True
    """
    value: float | None = totals[_KEYS[objective]]
    return value


def limit_text(limit: Mapping[str, Any]) -> str:
    """How much of a device's own limit a policy takes.

    >>> limit_text({"name": "flash", "unit": "B", "value": 2048.0, "used": 4096.0})
    'flash: 4 KiB of 2 KiB'
    """
    used, value = (
        format_bytes(limit[key]) if limit["unit"] == "B" else f"{limit[key]:.4g} {limit['unit']}"
        for key in ("used", "value")
    )
    return f"{limit['name']}: {used} of {value}"


def _refusal(reason: str) -> Json:
    return {**dict.fromkeys(_NUMBERS), "memory_bound": None, "ratio": None, "refused": reason}


def _baseline(question: Question, table: CostTable) -> float | None:
    bits = uniform_bits(question.layers, w_bits=BASELINE_BITS, a_bits=BASELINE_BITS)
    try:
        document = simulation(question.model, table, bits, exclude_first_last=question.exclude_first_last)
    except UnsupportedError:
        return None
    return of_objective(document["totals"], question.objective)


def _memory_bound(layers: Sequence[Mapping[str, Any]]) -> float | None:
    """The part of the latency in layers that wait for memory; None where the device does not say."""
    known = [layer for layer in layers if layer["bound"] is not None and layer["latency_s"]]
    whole = sum(layer["latency_s"] for layer in known)
    return sum(layer["latency_s"] for layer in known if layer["bound"] == "memory") / whole if whole else None

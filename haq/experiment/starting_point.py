"""What a fine-tuning was asked for: settings, and a policy or the bits that all layers get."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from haq.config import DATA_SETTINGS, DEVICE_SETTINGS, MODEL_SETTINGS, SearchConfig
from haq.costs.pricing import allowed_bits
from haq.errors import UserError
from haq.experiment.problem import PricedModel
from haq.experiment.run_settings import policy_source
from haq.experiment.trained_network import SETTINGS, has_trained_network
from haq.policy import CostSummary, LayerBits, Policy, load_policy
from haq.quantization.training.config import FinetuneConfig
from haq.tasks.base import Task
from hardware_sim.cost import Bits, UnsupportedError

PolicyLike = Policy | str | Path | tuple[Bits, Bits]
"""A policy, its file, or (w_bits, a_bits) for every layer; (None, None) leaves the whole network in float."""


@dataclass(frozen=True, slots=True)
class Asked:
    """All that decides what comes of a fine-tuning."""

    config: SearchConfig
    """Network, data and device; budgets and agents mean nothing here."""
    learning: FinetuneConfig
    policy: Policy | tuple[Bits, Bits]
    example: Tensor | None = field(default=None, compare=False)
    """The input that the network is traced with; the first calibration input where it is None."""

    def traced_with(self, task: Task) -> Tensor:
        """The input that the network is traced with."""
        return task.example() if self.example is None else self.example

    def document(self) -> dict[str, Any]:
        """What `config.json` holds."""
        return {
            **self.config.model_dump(mode="json"),
            SETTINGS: self.learning.model_dump(mode="json"),
            "bits": bits_asked(self.policy),
        }


def bits_asked(asked: Policy | tuple[Bits, Bits]) -> dict[str, Any]:
    """For `config.json`."""
    bits = asked if isinstance(asked, tuple) else (asked.w_bits, asked.a_bits)
    return dict(zip(("w_bits", "a_bits"), bits, strict=True))


def policy_for(asked: Policy | tuple[Bits, Bits], config: SearchConfig, priced: PricedModel) -> Policy:
    """The policy for a network. Raises UserError where it does not fit."""
    if isinstance(asked, tuple):
        return uniform_policy(config, priced, *asked)
    ignored = {"pin", "first_last_bits"} & config.model_fields_set
    if ignored:
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in sorted(ignored))
        raise UserError(f"the policy says all bits already; leave out {flags}")
    asked.check_fits(priced.layers, model=priced.name)
    return asked


@dataclass(frozen=True, slots=True)
class StartingPoint:
    """A policy to learn with, the settings that hold for it, and the input that its network is traced with."""

    policy: Policy | tuple[Bits, Bits]
    config: SearchConfig
    example: Tensor | None = None


def starting_point(
    policy: PolicyLike,
    config: SearchConfig,
    *,
    inherited: Collection[str] = (),
    notify: Callable[[str], None] = lambda _: None,
) -> StartingPoint:
    """Read a policy; given by its file or its run, network, data and device are those of the run unless given.

    `inherited` names further settings of the run that hold. `notify` receives a line for every callable that is called
    because the files name it. Raises UserError, also for the folder of a run that trained its network.
    """
    if not isinstance(policy, str | Path):
        return StartingPoint(read_policy(policy), config)
    source = policy_source(Path(policy), config, inherited=(*_INHERITED, *inherited), notify=notify)
    if Path(policy).is_dir() and source.run is not None and has_trained_network(source.run):
        raise UserError(
            f"{policy} holds a network that was trained, which learning does not start from; "
            f"give {source.path} to start from the network before its training"
        )
    source.allow_code()
    return StartingPoint(source.policy, source.config, source.example())


_INHERITED = (*MODEL_SETTINGS, *DATA_SETTINGS, *DEVICE_SETTINGS, "device")


def read_policy(policy: PolicyLike) -> Policy | tuple[Bits, Bits]:
    """A policy from its file; anything else as it is. Raises UserError for bits that are none."""
    if isinstance(policy, str | Path):
        return load_policy(policy)
    if isinstance(policy, tuple):
        wrong = [bits for bits in policy if bits is not None and not 1 <= bits <= 8]
        if wrong or len(policy) != 2:
            raise UserError(f"bits {policy!r}: give two widths from 1 to 8, of weights and activations; None for float")
    return policy


def uniform_policy(config: SearchConfig, priced: PricedModel, w_bits: Bits, a_bits: Bits) -> Policy:
    """The same bits for every layer but the first, the last and the pinned ones, which have those of a search."""
    by_latency = config.model_copy(update={"objective": "latency"})
    pinned = allowed_bits(by_latency, priced).pinned or {}
    layers = []
    for layer in priced.layers:
        w, a = pinned.get(layer.tied_to or layer.name, (w_bits, a_bits))
        kept = (None if w_bits is None else w, None if a_bits is None else a)
        layers.append(LayerBits(name=layer.name, kind=layer.kind, w_bits=kept[0], a_bits=kept[1]))
    policy = Policy(model=priced.name, hardware=None, objective=None, layers=tuple(layers))
    try:
        cost = CostSummary.of(priced.table.policy_cost(policy.w_bits, policy.a_bits))
    except UnsupportedError:  # a device without float has no cost for it, and training needs none
        return policy
    baseline = CostSummary.of(priced.baseline)
    return policy.model_copy(update={"hardware": config.hardware, "cost": cost, "baseline_cost": baseline})

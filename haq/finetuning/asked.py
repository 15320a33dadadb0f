"""What a fine-tuning was asked for: settings, and a policy or the bits that all layers get."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from haq.config import SearchConfig
from haq.costs.pricing import PricedModel, allowed_bits
from haq.errors import UserError
from haq.finetuning.config import FinetuneConfig
from haq.finetuning.saved import SETTINGS
from haq.policy import CostSummary, LayerBits, Policy, load_policy
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
    asked.check_fits(priced.trace.layers, model=priced.name)
    return asked


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
    for layer in priced.trace.layers:
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

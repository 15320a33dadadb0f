"""Request for a fine-tuning or a reconstruction: settings, and the policy to learn with."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from haq.config import SearchConfig
from haq.costs.deployment import deployment_target, require_deployable
from haq.costs.pricing import allowed_bits
from haq.errors import UserError
from haq.execution.structures import Structure
from haq.experiment.policy_source import policy_source
from haq.experiment.problem import PricedModel
from haq.layer_bits import LayerBits
from haq.policy import CostSummary, Policy
from haq.settings import DATA_SETTINGS, DEVICE_SETTINGS, MODEL_SETTINGS
from haq.tasks.base import Task
from hardware_sim.cost import Bits, UnsupportedError

UniformBits = tuple[Bits, Bits]
"""(w_bits, a_bits) of every layer but the first, the last and the pinned ones; None leaves all layers in float."""
PolicyLike = Policy | str | Path | UniformBits
"""A policy, its file, the folder of its run, or uniform bits."""
_INHERITED = (*MODEL_SETTINGS, *DATA_SETTINGS, *DEVICE_SETTINGS, "device")
"""Settings that learning with a policy takes from its run."""


class LearningConfig(Protocol):
    """Protocol of the settings of learning, pydantic models."""

    workflow: ClassVar[str]
    """Key of `config.json` that holds the settings."""

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """Convert the settings to plain values.

        Args:
            mode: `json` for JSON values.

        Returns:
            Values by setting.
        """
        ...


L = TypeVar("L", bound=LearningConfig)


@dataclass(frozen=True, slots=True)
class LearningRequest(Generic[L]):
    """Policy and settings that determine the result of a fine-tuning or a reconstruction.

    Attributes:
        config: Settings of network, data, quantizers and device; those of budget and search are not used.
        learning: Settings of learning.
        policy: Bits of all layers, or uniform bits.
        example: Input [1, ...] that the network is traced with; None for the first calibration input.
    """

    config: SearchConfig
    learning: L
    policy: Policy | UniformBits
    example: Structure | None = field(default=None, compare=False)

    def trace_input(self, task: Task) -> Structure:
        """Return the input that the network is traced with.

        Args:
            task: Data, used if the request has no example.

        Returns:
            Input [1, ...].
        """
        return task.example() if self.example is None else self.example

    def document(self) -> dict[str, Any]:
        """Return the contents of `config.json` of the run."""
        bits = self.policy if isinstance(self.policy, tuple) else (self.policy.w_bits, self.policy.a_bits)
        return {
            **self.config.model_dump(mode="json"),
            self.learning.workflow: self.learning.model_dump(mode="json"),
            "bits": dict(zip(("w_bits", "a_bits"), bits, strict=True)),
        }

    def policy_for(self, priced: PricedModel) -> Policy:
        """Resolve the policy for a network.

        Args:
            priced: The network with its costs.

        Returns:
            The policy, with its cost if the device has one for it.

        Raises:
            UserError: The policy does not fit the network or the deployment target, or settings of bits were given in
                addition to it.
        """
        policy = self._policy_for(priced)
        target = deployment_target(self.config)
        require_deployable(target, policy.layers, layers=priced.layers, heads=priced.heads)
        return policy

    def _policy_for(self, priced: PricedModel) -> Policy:
        if isinstance(self.policy, tuple):
            return _uniform_policy(self.config, priced, *self.policy)
        ignored = {"pin", "first_last_bits"} & self.config.model_fields_set
        if ignored:
            flags = " and ".join(f"--{name.replace('_', '-')}" for name in sorted(ignored))
            raise UserError(f"the policy says all bits already; leave out {flags}")
        self.policy.check_fits(priced.layers, model=priced.name)
        return self.policy


def learning_request(
    policy: PolicyLike,
    config: SearchConfig,
    learning: L,
    *,
    inherited: Collection[str] = (),
    notify: Callable[[str], None] = lambda _: None,
) -> LearningRequest[L]:
    """Read a policy and resolve the settings to learn with.

    Args:
        policy: A policy, uniform bits, or a file or run, whose network, data and device are used unless given.
        config: Settings that the user gave, in `model_fields_set`.
        learning: Settings of learning.
        inherited: Further settings that are taken from the run.
        notify: Receives a line for every callable that is called because the files name it.

    Returns:
        The request.

    Raises:
        UserError: The policy cannot be read, its run trained the network, or haq has no record that this user ran its
            code.
    """
    if not isinstance(policy, str | Path):
        return LearningRequest(config, learning, _checked(policy))
    source = policy_source(Path(policy), config, inherited=(*_INHERITED, *inherited), notify=notify)
    if Path(policy).is_dir() and source.run is not None and source.run.trains:
        raise UserError(
            f"{policy} holds a network that was trained, which learning does not start from; "
            f"give {source.path} to start from the network before its training"
        )
    source.allow_code()
    return LearningRequest(source.config, learning, source.policy, source.example())


def _checked(policy: Policy | UniformBits) -> Policy | UniformBits:
    """Return the bits. Raises UserError if they are invalid."""
    if isinstance(policy, tuple):
        wrong = [bits for bits in policy if bits is not None and not 1 <= bits <= 8]
        if wrong or len(policy) != 2:
            raise UserError(f"bits {policy!r}: give two widths from 1 to 8, of weights and activations; None for float")
    return policy


def _uniform_policy(config: SearchConfig, priced: PricedModel, w_bits: Bits, a_bits: Bits) -> Policy:
    """Return uniform bits for every layer but the first, the last and the pinned ones, which have those of a search."""
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

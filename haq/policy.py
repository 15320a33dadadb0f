"""Bit-width policies: the bits of every layer as an immutable value, and its JSON file.

Files have a version. Version 2 adds to version 1 the budget, a hash of the network's weights, and signedness and
granularity of the quantizers. Files of version 1 are read and, where nothing is added to them, written as such.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from haq.errors import UserError, validation_message
from haq.file_limits import POLICY, read_bytes
from haq.files import link_target, write_atomically
from haq.formatting import counted, device_title, format_cost, model_title, percent
from haq.layer_bits import FileRecord, LayerBits, Name, difference_from
from haq.notebook import notebook_html
from haq.tables import Block, Table
from hardware_sim.cost import COST_FIELDS, Bits, Cost, Objective
from hardware_sim.layer import Layer

Number = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Score = Annotated[float, Field(strict=True, allow_inf_nan=False)]
WeightsHash = Annotated[str, Field(strict=True, pattern=r"^[0-9a-f]{32}$")]
SCHEMA_ID = "urn:haq:policy:2"
"""The `$id` of the JSON Schema of policy files, and the `$schema` of files that follow it."""
SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
PolicyBits = tuple[tuple[Bits, ...], tuple[Bits, ...]]
"""(w_bits, a_bits), one of each per layer."""
_MARKS = ("format", "version")
"""Fields that identify the format: required in files, optional in code."""
_ADDED = ("$schema", "weights", "budget")
"""Fields that version 1 does not have."""
_ADDED_TO_LAYERS = ("w_signed", "w_granularity", "a_signed", "a_granularity")
"""Fields of a layer that version 1 does not have."""


class PolicyBudget(FileRecord):
    """Upper limit on the cost of a policy."""

    objective: Objective
    value: Number = Field(description="Limit in SI units: seconds, joules, bytes or bit operations, of a whole batch.")
    ratio: Number = Field(description="The limit over the cost of 8 bits everywhere.")


class CostSummary(FileRecord):
    """Cost of a policy on a device; null for what the device does not model."""

    latency_s: Number | None = None
    energy_j: Number | None = None
    weight_bytes: Number | None = None
    bops: Number | None = None

    @classmethod
    def of(cls, cost: Cost) -> Self:
        """Create a summary from a simulated cost.

        Args:
            cost: Cost of a policy.

        Returns:
            Its four totals.
        """
        return cls(latency_s=cost.latency_s, energy_j=cost.energy_j, weight_bytes=cost.weight_bytes, bops=cost.bops)

    def value(self, objective: Objective) -> float | None:
        """Return the total that an objective minimizes.

        Args:
            objective: Objective.

        Returns:
            Seconds, joules, bytes or bit operations; None where the device does not model it.
        """
        value: float | None = getattr(self, COST_FIELDS[objective])
        return value


class Policy(FileRecord):
    """Immutable bit-width policy of a network.

    `cost` and `baseline_cost` (8 bits everywhere) are of the device's whole batch. `accuracy` maps names of splits,
    such as `search` and `report`, to the accuracy with the policy, and names such as `fp32_report` to that of the float
    network, all as fractions.

    Examples:
        >>> layer = LayerBits(name="conv1", kind="conv", w_bits=4, a_bits=8)
        >>> Policy(model="m", hardware="bismo-edge", objective="latency", layers=(layer,)).w_bits
        (4,)
    """

    schema_id: Name = Field(SCHEMA_ID, alias="$schema", description="Identifier of this schema.")
    format: Literal["haq-policy"] = "haq-policy"
    version: Literal[1, 2] = 2
    model: Name
    weights: WeightsHash | None = Field(
        None, description="Hash of the float network's parameters and buffers before anything was trained."
    )
    hardware: Name | None
    objective: Objective | None
    budget: tuple[PolicyBudget, ...] | None = Field(
        None, description="Limits that the policy keeps, the objective's first; null where there were none."
    )
    layers: Annotated[tuple[LayerBits, ...], Field(min_length=1, max_length=100_000)]
    cost: CostSummary = CostSummary()
    baseline_cost: CostSummary = CostSummary()
    accuracy: dict[Name, Score | None] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _version_1_has_no_later_fields(self) -> Self:
        if self.version == 1:
            later = [name for name in _ADDED if _attribute(name) in self.model_fields_set]
            for number, layer in enumerate(self.layers):
                later += [f"layers.{number}.{name}" for name in _ADDED_TO_LAYERS if name in layer.model_fields_set]
            if later:
                raise ValueError(f"{later[0]}: version 1 does not have this field")
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        twice = [name for name, count in Counter(layer.name for layer in self.layers).items() if count > 1]
        if twice:
            raise ValueError(f"layers: {twice[0]!r} appears more than once")
        return self

    @property
    def w_bits(self) -> tuple[int | None, ...]:
        """Bits of the weights of every layer."""
        return tuple(layer.w_bits for layer in self.layers)

    @property
    def a_bits(self) -> tuple[int | None, ...]:
        """Bits of the input of every layer."""
        return tuple(layer.a_bits for layer in self.layers)

    def with_accuracy(self, **accuracy: float) -> "Policy":
        """Return a copy with further accuracies.

        Args:
            accuracy: Accuracies, as fractions, by name of the split.

        Returns:
            The copy.
        """
        return self.model_copy(update={"accuracy": {**self.accuracy, **accuracy}})

    def in_version_2(self, **changes: Any) -> "Policy":
        """Return a copy in version 2, with other values of some fields.

        Args:
            changes: New values by field.

        Returns:
            The copy.
        """
        return self.model_copy(update={"version": 2, **changes})

    def to_json(self) -> str:
        """Return the content of the policy file, with one line for every layer."""
        document = self.model_dump(mode="json", by_alias=True)
        if self.version == 1:
            document = {name: value for name, value in document.items() if name not in _ADDED}
            for layer in document["layers"]:
                for name in _ADDED_TO_LAYERS:
                    del layer[name]
        layers = ",\n".join(f"    {json.dumps(layer)}" for layer in document["layers"])
        values = {key: json.dumps(value, allow_nan=False) for key, value in document.items()}
        values["layers"] = f"[\n{layers}\n  ]"
        return "{\n" + ",\n".join(f'  "{key}": {value}' for key, value in values.items()) + "\n}\n"

    def save(self, path: str | Path) -> None:
        """Write the policy to a file atomically.

        Args:
            path: File to write; its folder must exist.

        Raises:
            UserError: The file cannot be written.
        """
        try:
            write_atomically(link_target(Path(path)), self.to_json().encode())
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from error

    def check_fits(self, layers: tuple[Layer, ...], *, model: str) -> None:
        """Check that the policy has exactly the layers of a network, in the same order, and tied layers equal bits.

        Args:
            layers: Layers of the network.
            model: Name of the network, for the message.

        Raises:
            UserError: The policy does not fit; the message names the first difference.
        """
        difference = difference_from(self.layers, layers, model=model)
        if difference:
            theirs = f"for {self.model}, {counted(len(self.layers), 'layer')}"
            raise UserError(f"the policy ({theirs}) does not fit {model}: {difference}")

    def _repr_html_(self) -> str:
        """Format cost, accuracy and the bits of all layers for a notebook."""
        device = "" if self.hardware is None else f" on {device_title(self.hardware)}"
        return notebook_html(f"Policy of {model_title(self.model)}{device}", self._blocks())

    def _blocks(self) -> Iterator[Block]:
        costs = ((name, self.cost.value(name), self.baseline_cost.value(name)) for name in COST_FIELDS)
        rows = [
            (name, format_cost(name, cost), percent(cost / baseline) if baseline else "-")
            for name, cost, baseline in costs
            if cost is not None
        ]
        if rows:
            yield Table(("cost", "of the policy", "of 8 bits"), tuple(rows))
        scores = [(split, f"{score:.4g}") for split, score in self.accuracy.items() if score is not None]
        if scores:
            yield Table(("split", "score"), tuple(scores))
        bits = (
            (each.name, each.kind, *("float" if width is None else str(width) for width in (each.w_bits, each.a_bits)))
            for each in self.layers
        )
        yield Table(("layer", "kind", "weight bits", "activation bits"), tuple(bits), text_columns=2)


def load_policy(path: str | Path) -> Policy:
    """Read a policy file of version 1 or 2.

    Args:
        path: Policy file.

    Returns:
        The policy.

    Raises:
        UserError: The file cannot be read or is no policy; the message names the field.

    Examples:
        >>> load_policy("results/digits/policy.json").w_bits  # doctest: +SKIP
    """
    path = Path(path)
    content = read_bytes(path, POLICY)
    try:
        policy = Policy.model_validate_json(content, by_alias=True, by_name=False)
    except ValidationError as error:
        raise UserError(f"{path} is not a haq policy: {validation_message(error)}") from error
    missing = [name for name in _MARKS if name not in policy.model_fields_set]
    if missing:
        raise UserError(f"{path} is not a haq policy: {missing[0]}: field required")
    return policy


def policy_schema() -> dict[str, Any]:
    """Return the JSON Schema of policy files of versions 1 and 2."""
    schema = Policy.model_json_schema()
    later = dict.fromkeys(_ADDED, False)
    of_layers = {"items": {"properties": dict.fromkeys(_ADDED_TO_LAYERS, False)}}
    return {
        "$schema": SCHEMA_DIALECT,
        "$id": SCHEMA_ID,
        **schema,
        "description": "Bit-width policy of a network: the bits of every layer's weights and input, their cost on a "
        "device and the accuracy with them.",
        "required": [*_MARKS, *schema["required"]],
        "if": {"properties": {"version": {"const": 1}}},
        "then": {"properties": {**later, "layers": of_layers}},
    }


def _attribute(name: str) -> str:
    return "schema_id" if name == "$schema" else name

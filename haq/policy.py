"""The bits of all layers: an immutable value, and the JSON file that carries it."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from haq.errors import UserError, validation_message
from haq.files import write_atomically
from hardware_sim.cost import OBJECTIVES, Bits, Cost, Objective
from hardware_sim.layer import Layer, LayerKind

MAX_FILE_BYTES = 16 * 2**20
Width = Annotated[int, Field(strict=True, ge=1, le=8)]
# Names are shown in one-line messages: no control characters, and no endless ones.
PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"
Name = Annotated[str, Field(strict=True, min_length=1, max_length=1000, pattern=PRINTABLE)]
Number = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Score = Annotated[float, Field(strict=True, allow_inf_nan=False)]
PolicyBits = tuple[tuple[Bits, ...], tuple[Bits, ...]]
"""(w_bits, a_bits), one of each per layer."""
_MARKS = ("format", "version")
"""By these a file says what it is: code may leave them out, a file may not."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LayerBits(_Frozen):
    """The bits of one layer: of its weights and of its input activations; None leaves them in float."""

    name: Name
    kind: LayerKind
    w_bits: Width | None
    a_bits: Width | None


class CostSummary(_Frozen):
    """What a policy costs in every currency; None is what the device does not model."""

    latency_s: Number | None = None
    energy_j: Number | None = None
    weight_bytes: Number | None = None
    bops: Number | None = None

    @classmethod
    def of(cls, cost: Cost) -> Self:
        """The four numbers of a simulated cost."""
        return cls(latency_s=cost.latency_s, energy_j=cost.energy_j, weight_bytes=cost.weight_bytes, bops=cost.bops)

    def value(self, objective: Objective) -> float | None:
        """The number that an objective minimises."""
        return dict(zip(OBJECTIVES, (self.latency_s, self.energy_j, self.weight_bytes, self.bops), strict=True))[
            objective
        ]


class Policy(_Frozen):
    """A bit-width policy: which network it is for, the bits of its layers, what they cost, and how accurate it was.

    `cost` and `baseline_cost` (8 bits everywhere) are of the device's whole batch. `accuracy` maps names such as
    `fp32`, `search` and `report` to fractions.

    >>> layer = LayerBits(name="conv1", kind="conv", w_bits=4, a_bits=8)
    >>> Policy(model="m", hardware="bismo-edge", objective="latency", layers=(layer,)).w_bits
    (4,)
    """

    format: Literal["haq-policy"] = "haq-policy"
    version: Literal[1] = 1
    model: Name
    hardware: Name | None
    objective: Objective | None
    layers: Annotated[tuple[LayerBits, ...], Field(min_length=1, max_length=100_000)]
    cost: CostSummary = CostSummary()
    baseline_cost: CostSummary = CostSummary()
    accuracy: dict[Name, Score | None] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        twice = [name for name, count in Counter(layer.name for layer in self.layers).items() if count > 1]
        if twice:
            raise ValueError(f"layers: {twice[0]!r} appears more than once")
        return self

    @property
    def w_bits(self) -> tuple[int | None, ...]:
        """Weight bits of every layer."""
        return tuple(layer.w_bits for layer in self.layers)

    @property
    def a_bits(self) -> tuple[int | None, ...]:
        """Input activation bits of every layer."""
        return tuple(layer.a_bits for layer in self.layers)

    def with_accuracy(self, **accuracy: float) -> "Policy":
        """The same policy with more known of its accuracy."""
        return self.model_copy(update={"accuracy": {**self.accuracy, **accuracy}})

    def to_json(self) -> str:
        """The file's content, with one line for every layer."""
        document = self.model_dump(mode="json")
        layers = ",\n".join(f"    {json.dumps(layer)}" for layer in document["layers"])
        values = {key: json.dumps(value, allow_nan=False) for key, value in document.items()}
        values["layers"] = f"[\n{layers}\n  ]"
        return "{\n" + ",\n".join(f'  "{key}": {value}' for key, value in values.items()) + "\n}\n"

    def save(self, path: str | Path) -> None:
        """Write the policy, whole or not at all. Raises UserError if the folder does not take it."""
        try:
            write_atomically(Path(path), self.to_json().encode())
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from error

    def check_fits(self, layers: tuple[Layer, ...], *, model: str) -> None:
        """Raise UserError unless the policy is for exactly these layers, in this order, tied ones with equal bits."""
        difference = self._difference_of_names(layers, model) or self._difference_of_layers(layers)
        if difference:
            theirs = f"for {self.model}, {len(self.layers)} layers"
            raise UserError(f"the policy ({theirs}) does not fit {model}: {difference}")

    def _difference_of_names(self, layers: tuple[Layer, ...], model: str) -> str:
        ours, theirs = [layer.name for layer in layers], [layer.name for layer in self.layers]
        if ours == theirs:
            return ""
        missing = [name for name in ours if name not in set(theirs)]
        unknown = [name for name in theirs if name not in set(ours)]
        parts = [f"no bits for {_few(missing)}"] if missing else []
        parts += [f"bits for {_few(unknown)}, which {model} does not have"] if unknown else []
        return "; ".join(parts) or "the same layers in another order"

    def _difference_of_layers(self, layers: tuple[Layer, ...]) -> str:
        bits = {layer.name: layer for layer in self.layers}
        for layer in layers:
            mine, owner = bits[layer.name], bits[layer.tied_to or layer.name]
            if mine.kind != layer.kind:
                return f"{layer.name} is {layer.kind}, not {mine.kind}"
            if (mine.w_bits, mine.a_bits) != (owner.w_bits, owner.a_bits):
                return f"{layer.name} must have the bits of {owner.name}, whose weights it uses"
        return ""


def uniform_bits(layers: tuple[Layer, ...], *, w_bits: int | None, a_bits: int | None) -> tuple[LayerBits, ...]:
    """The same bits for every layer."""
    return tuple(LayerBits(name=layer.name, kind=layer.kind, w_bits=w_bits, a_bits=a_bits) for layer in layers)


def load_policy(path: str | Path) -> Policy:
    """Read a policy file. Raises UserError, naming the field, if it is not one."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UserError(f"cannot read policy {path}: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise UserError(f"{path} is larger than {MAX_FILE_BYTES // 2**20} MiB, which no policy is")
    try:
        policy = Policy.model_validate_json(content)
    except ValidationError as error:
        raise UserError(f"{path} is not a haq policy: {validation_message(error)}") from error
    missing = [name for name in _MARKS if name not in policy.model_fields_set]
    if missing:
        raise UserError(f"{path} is not a haq policy: {missing[0]}: field required")
    return policy


def policy_schema() -> dict[str, object]:
    """The JSON Schema of policy files."""
    schema = Policy.model_json_schema()
    return {**schema, "required": [*_MARKS, *schema["required"]]}


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

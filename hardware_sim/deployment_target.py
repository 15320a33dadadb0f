"""Deployment targets: the rules of a runtime, tool or chip for the bits and the quantizers of a network.

One TOML file for each target; its keys are the fields of `DeploymentTarget`.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import product
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hardware_sim.cost import Bits
from hardware_sim.layer import LAYER_KINDS, LayerKind
from hardware_sim.weight_storage import FileStorage

Width = Annotated[int, Field(strict=True, ge=1, le=8)]
Widths = Annotated[tuple[Width, ...], Field(min_length=1)]
Pair = tuple[int, int]
"""(w_bits, a_bits)"""
Operand = Literal["weights", "activations"]
WeightStorage = Literal["packed", FileStorage]
"""Storage of weights: w_bits each, or as files store them (`hardware_sim.weight_storage`)."""


class BitRule(BaseModel):
    """Widths of weights that may be combined with widths of activations, all with all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    w_bits: Widths
    a_bits: Widths

    @property
    def pairs(self) -> frozenset[Pair]:
        """The pairs (w_bits, a_bits)."""
        return frozenset(product(self.w_bits, self.a_bits))

    def __str__(self) -> str:
        """Describe the widths.

        >>> str(BitRule(w_bits=(2, 4, 8), a_bits=(8,)))
        'weights of 2, 4 or 8 bits with activations of 8 bits'
        """
        return f"weights of {widths_text(self.w_bits)} bits with activations of {widths_text(self.a_bits)} bits"


class DeploymentTarget(BaseModel):
    """Rules of a runtime, tool or chip that a network is deployed on.

    `sources` maps keys to where their values come from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
    description: Annotated[str, Field(min_length=1, max_length=400)]
    bits: Annotated[tuple[BitRule, ...], Field(min_length=1)]
    """Legal pairs of bits: those of any of these rules."""
    first_last: tuple[BitRule, ...] = ()
    """The same for the first layer and the layers that produce outputs of the network, where they differ."""
    layer_kinds: Annotated[tuple[LayerKind, ...], Field(min_length=1)] = LAYER_KINDS
    """Kinds of layers that the target computes."""
    float_layers: Annotated[bool, Field(strict=True)] = False
    """Whether layers may be left in float."""
    weight_granularity: Literal["per_tensor", "per_channel"] = "per_channel"
    """Largest number of scales of the weights of a layer: one, or one for each output channel."""
    zero_points: Annotated[bool, Field(strict=True)] = True
    """Whether activations may have zero points other than 0."""
    offsets: Annotated[bool, Field(strict=True)] = False
    """Whether activations may have offsets in float, which are subtracted before they are quantized."""
    power_of_two_scales: tuple[Operand, ...] = ()
    """Operands whose scales must be powers of two."""
    weight_storage: WeightStorage = "packed"
    """How weights are stored, which determines their bytes."""
    notes: tuple[str, ...] = ()
    """Lines for readers of costs on this target."""
    sources: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _sources_name_keys(self) -> Self:
        unknown = sorted(set(self.sources) - set(type(self).model_fields))
        if unknown:
            raise ValueError(f"sources names {', '.join(unknown)}, which are not keys of a target")
        return self

    @cached_property
    def pairs(self) -> frozenset[Pair]:
        """Legal pairs (w_bits, a_bits) of layers in the middle."""
        return frozenset[Pair]().union(*(rule.pairs for rule in self.bits))

    @cached_property
    def end_pairs(self) -> frozenset[Pair]:
        """Legal pairs (w_bits, a_bits) of the first layer and of those that produce outputs."""
        return frozenset[Pair]().union(*(rule.pairs for rule in self.first_last)) if self.first_last else self.pairs

    @property
    def restricts_scales(self) -> bool:
        """Whether scales cannot be learned freely: powers of two, or one scale for all weights of a layer."""
        return bool(self.power_of_two_scales) or self.weight_granularity == "per_tensor"

    def allows(self, w_bits: Bits, a_bits: Bits, *, is_end: bool = False) -> bool:
        """Check whether a layer may have a pair of widths.

        Args:
            w_bits: Bits of the weights; None for float.
            a_bits: Bits of the input activations; None for float.
            is_end: Whether the layer is the first one, or produces an output of the network.

        Returns:
            Whether it may.
        """
        if w_bits is None or a_bits is None:
            return self.float_layers
        return (w_bits, a_bits) in (self.end_pairs if is_end else self.pairs)

    def legal_text(self, *, is_end: bool = False) -> str:
        """Describe the legal pairs.

        Args:
            is_end: Whether to describe those of the first layer and of layers that produce outputs.

        Returns:
            One line.
        """
        rules = self.first_last if is_end and self.first_last else self.bits
        return ", or ".join(map(str, rules))


def widths_text(widths: Sequence[int]) -> str:
    """Describe widths.

    Args:
        widths: The widths.

    Returns:
        A range or a list in words.

    Example:
        >>> widths_text((2, 3, 4, 5)), widths_text((8, 4, 2)), widths_text((8,))
        ('2 to 5', '2, 4 or 8', '8')
    """
    ordered = sorted(set(widths))
    if len(ordered) > 2 and ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"{ordered[0]} to {ordered[-1]}"
    *first, last = map(str, ordered)
    return f"{', '.join(first)} or {last}" if first else last

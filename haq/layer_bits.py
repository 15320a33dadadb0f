"""Bits of the layers of a network, as policies and their files have them."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from hardware_sim.layer import Layer, LayerKind

Width = Annotated[int, Field(strict=True, ge=1, le=8)]
# Names are shown in one-line messages: no control characters, and no endless ones.
PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"
Name = Annotated[str, Field(strict=True, min_length=1, max_length=1000, pattern=PRINTABLE)]
Sign = Annotated[bool, Field(strict=True)]
Granularity = Literal["per_tensor", "per_channel"]
"""Part of a tensor that shares a scale: the whole tensor, or each output channel."""


class FileRecord(BaseModel):
    """Immutable part of a policy file; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)


class LayerBits(FileRecord):
    """Bits of one layer and the kind of its quantizers."""

    name: Name
    kind: LayerKind
    w_bits: Width | None = Field(description="Bits of the weights; null leaves them in float.")
    a_bits: Width | None = Field(
        description="Bits of the layer's input activations, not of its output; null leaves the input in float."
    )
    w_signed: Sign | None = Field(None, description="Whether codes of the weights are signed; null if unknown.")
    w_granularity: Granularity | None = Field(None, description="What shares a scale of the weights; null if unknown.")
    a_signed: Sign | None = Field(None, description="Whether codes of the input are signed; null if unknown.")
    a_granularity: Granularity | None = Field(None, description="What shares a scale of the input; null if unknown.")


def uniform_bits(layers: tuple[Layer, ...], *, w_bits: int | None, a_bits: int | None) -> tuple[LayerBits, ...]:
    """Assign the same bits to every layer.

    Args:
        layers: Layers of a network.
        w_bits: Bits of the weights; None leaves them in float.
        a_bits: Bits of the inputs; None leaves them in float.

    Returns:
        The bits of all layers, in order.
    """
    return tuple(LayerBits(name=layer.name, kind=layer.kind, w_bits=w_bits, a_bits=a_bits) for layer in layers)


def difference_from(bits: Sequence[LayerBits], layers: Sequence[Layer], *, model: str) -> str:
    """Describe why bits do not fit a network.

    Args:
        bits: Bits of layers.
        layers: Layers of the network.
        model: Name of the network, for the text.

    Returns:
        The first difference of names, order or kinds, or layers with the same weights and different bits; empty if the
        bits fit.
    """
    return _difference_of_names(bits, layers, model) or _difference_of_layers(bits, layers)


def _difference_of_names(bits: Sequence[LayerBits], layers: Sequence[Layer], model: str) -> str:
    ours, theirs = [layer.name for layer in layers], [layer.name for layer in bits]
    if ours == theirs:
        return ""
    missing = [name for name in ours if name not in set(theirs)]
    unknown = [name for name in theirs if name not in set(ours)]
    parts = [f"no bits for {_few(missing)}"] if missing else []
    parts += [f"bits for {_few(unknown)}, which {model} does not have"] if unknown else []
    return "; ".join(parts) or "the same layers in another order"


def _difference_of_layers(bits: Sequence[LayerBits], layers: Sequence[Layer]) -> str:
    given = {layer.name: layer for layer in bits}
    for layer in layers:
        mine, owner = given[layer.name], given[layer.tied_to or layer.name]
        if mine.kind != layer.kind:
            return f"{layer.name} is {layer.kind}, not {mine.kind}"
        if (mine.w_bits, mine.a_bits) != (owner.w_bits, owner.a_bits):
            return f"{layer.name} must have the bits of {owner.name}, whose weights it uses"
    return ""


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

"""Settings of NVIDIA's Model Optimizer: patterns of quantizer names with `num_bits`; later ones take precedence."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from pydantic import TypeAdapter

from haq.errors import UserError
from haq.interchange.document import Part, validated
from haq.interchange.given_bits import GivenBits, ImportedBits, checked_bits
from haq.layer_bits import Name
from hardware_sim.cost import Bits
from hardware_sim.layer import Layer, LayerKind

MAX_PATTERNS = 1000
DEFAULT_BITS = 8
"""Bits of a quantizer without `num_bits`."""
_KINDS: dict[str | None, tuple[LayerKind, ...]] = {
    "nn.Linear": ("linear",),
    "nn.Conv1d": ("conv", "depthwise"),
    "nn.Conv2d": ("conv", "depthwise"),
    "nn.ConvTranspose2d": ("conv_transpose",),
    "nn.Embedding": ("embedding",),
}
"""Kinds of the layers of a module class."""


class _Attributes(Part):
    num_bits: int | list[int] | None = None
    enable: bool = True


class _Rule(Part):
    quantizer_name: Name
    cfg: _Attributes | list[_Attributes] | None = None
    enable: bool = True
    parent_class: str | None = None


_ByPattern = dict[Name, _Attributes | list[_Attributes]]
_RULES = TypeAdapter(list[_Rule])
_BY_PATTERN = TypeAdapter(_ByPattern)


def is_modelopt(document: Any) -> bool:
    """Return whether a document is a quantization configuration of Model Optimizer.

    Args:
        document: JSON values.

    Returns:
        True if it has a `quant_cfg`.
    """
    return isinstance(document, dict) and "quant_cfg" in document


def read_modelopt(document: Any, layers: Sequence[Layer]) -> ImportedBits:
    """Read the bits that a quantization configuration gives to the layers of a network.

    Args:
        document: JSON values of the file.
        layers: Layers of the network, whose quantizers the patterns name.

    Returns:
        Bits by layer.

    Raises:
        UserError: The document has another form; the message names the place.
    """
    rules = list(_rules(document.get("quant_cfg")))
    if len(rules) > MAX_PATTERNS:
        raise UserError(f"quant_cfg: more than {MAX_PATTERNS} patterns")
    weights, inputs = (tuple(_given(rules, layers, part)) for part in ("weight", "input"))
    return ImportedBits("Model Optimizer settings", weights=weights, inputs=inputs)


def _given(rules: Sequence[tuple[str, _Rule]], layers: Sequence[Layer], part: str) -> Iterator[GivenBits]:
    """Yield the bits of the weights or inputs of all layers that a pattern matches."""
    for layer in layers:
        matching = [each for each in rules if _matches(each[1], layer, part)]
        if matching:
            with_attributes = [each for each in matching if each[1].cfg]
            place = (with_attributes or matching)[-1][0]
            bits = _bits(with_attributes[-1][1].cfg, place) if with_attributes else DEFAULT_BITS
            yield GivenBits(layer.name, bits if matching[-1][1].enable else None, place)


def _rules(settings: Any) -> Iterator[tuple[str, _Rule]]:
    """Yield the place and the rule of each pattern, a default first."""
    if isinstance(settings, list):
        rules: list[_Rule] = validated(_RULES, settings, place="quant_cfg")
        yield from ((f"quant_cfg.{number}", rule) for number, rule in enumerate(rules))
        return
    patterns: _ByPattern = validated(_BY_PATTERN, settings, place="quant_cfg")
    for pattern, attributes in sorted(patterns.items(), key=lambda item: item[0] != "default"):
        if pattern in _KINDS:
            raise UserError(f"quant_cfg.{pattern}: patterns inside a class; write them as a list of rules")
        is_enabled = attributes.enable if isinstance(attributes, _Attributes) else True
        name = "*" if pattern == "default" else pattern
        yield f"quant_cfg.{pattern}", _Rule(quantizer_name=name, cfg=attributes, enable=is_enabled)


def _matches(rule: _Rule, layer: Layer, part: str) -> bool:
    if rule.parent_class is not None and layer.kind not in _KINDS.get(rule.parent_class, ()):
        return False
    return fnmatchcase(f"{layer.name}.{part}_quantizer", rule.quantizer_name)


def _bits(attributes: _Attributes | list[_Attributes] | None, place: str) -> Bits:
    """Return the bits of the first of several quantizers in a row; None if it is off."""
    first = attributes[0] if isinstance(attributes, list) else attributes
    if first is None or not first.enable:
        return None
    if isinstance(first.num_bits, list):
        raise UserError(f"{place}: num_bits of a float format; haq has integers of 1 to 8 bits, or float")
    return DEFAULT_BITS if first.num_bits is None else checked_bits(first.num_bits, place)

"""Encodings files of AIMET, versions 0.6.1, 1.0.0, 2.0.0 and 2.1.0: integer grids of tensors, by name.

Parameters have the names of the state dict; activations those of the tensors of an ONNX graph, or of modules.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter

from haq.errors import UserError
from haq.interchange.document import Part, validated
from haq.interchange.given_bits import MAX_BITS, GivenBits, ImportedBits, checked_bits
from haq.layer_bits import Name
from hardware_sim.cost import Bits

VERSIONS = ("0.6.1", "1.0.0", "2.0.0", "2.1.0")
_DTYPE = re.compile(r"u?int([1-9][0-9]?)")
_FLOAT = re.compile(r"b?float(16|32)?")


class _Encoding0(Part):
    """Encoding of version 0.6.1, of a tensor or of one channel."""

    bitwidth: int
    dtype: str = "int"


class _Encoding1(Part):
    """Encoding of version 1.0.0."""

    name: Name
    bw: int
    dtype: str = "INT"
    block_size: int | None = None


class _Encoding2(Part):
    """Encoding of versions 2.0.0 and 2.1.0."""

    name: Name
    output_dtype: str
    block_size: int | None = None


_OfModule = dict[str, dict[str, _Encoding0]]
"""Encodings of a module by `input` and `output` and by their number: the form of aimet_torch."""
_PARAMETERS_0 = TypeAdapter(dict[Name, list[_Encoding0]])
_ACTIVATIONS_0 = TypeAdapter(dict[Name, list[_Encoding0] | _OfModule])
_ENCODINGS_1 = TypeAdapter(list[_Encoding1])
_ENCODINGS_2 = TypeAdapter(list[_Encoding2])
_BLOCKS = "scales of blocks become scales of channels"


def is_aimet(document: Any) -> bool:
    """Return whether a document has the sections of an encodings file.

    Args:
        document: JSON values.

    Returns:
        True if it has.
    """
    return isinstance(document, dict) and not document.keys().isdisjoint(
        {"encodings", "activation_encodings", "param_encodings"}
    )


def read_aimet(document: Any) -> ImportedBits:
    """Read the bits in an encodings file.

    Args:
        document: JSON values of the file.

    Returns:
        Bits by the names in the file.

    Raises:
        UserError: The file has another form or another version; the message names the place.
    """
    if not is_aimet(document):
        raise UserError("neither encodings nor param_encodings and activation_encodings, which AIMET writes")
    version = document.get("version", _version_without_mark(document))
    if version not in VERSIONS:
        raise UserError(f"version: {str(version)[:20]!r}, but encodings of {', '.join(VERSIONS)} are read")
    if version in ("2.0.0", "2.1.0"):
        entries: list[_Encoding2] = validated(_ENCODINGS_2, document.get("encodings"), place="encodings")
        return _imported(entries, undecided=tuple(_bits_2(entries)))
    read = _read_0 if version == "0.6.1" else _read_1
    return read(document)


def _version_without_mark(document: Mapping[str, Any]) -> str:
    """Return the version whose form a file without `version` has; very old files have none."""
    if "encodings" in document:
        return "2.0.0"
    return "0.6.1" if isinstance(document.get("param_encodings"), dict) else "1.0.0"


def _bits_2(entries: Sequence[_Encoding2]) -> Iterator[GivenBits]:
    for number, entry in enumerate(entries):
        place = f"encodings.{number}"
        found = _DTYPE.fullmatch(entry.output_dtype)
        bits = int(found[1]) if found else None
        yield GivenBits(entry.name, _checked(bits, entry.output_dtype, f"{place}.output_dtype"), place)


def _read_1(document: Mapping[str, Any]) -> ImportedBits:
    entries, found = [], {}
    for section in ("param_encodings", "activation_encodings"):
        part: list[_Encoding1] = validated(_ENCODINGS_1, document.get(section, []), place=section)
        found[section] = tuple(
            GivenBits(entry.name, _checked(_integer(entry.bw, entry.dtype), entry.dtype, place), place)
            for number, entry in enumerate(part)
            for place in [f"{section}.{number}"]
        )
        entries += part
    return _imported(entries, weights=found["param_encodings"], tensors=found["activation_encodings"])


def _read_0(document: Mapping[str, Any]) -> ImportedBits:
    parameters = validated(_PARAMETERS_0, document.get("param_encodings", {}), place="param_encodings")
    weights = tuple(_channels(name, part, f"param_encodings.{name}") for name, part in parameters.items())
    activations = validated(_ACTIVATIONS_0, document.get("activation_encodings", {}), place="activation_encodings")
    tensors: list[GivenBits] = []
    inputs: list[GivenBits] = []
    for name, part in activations.items():
        place = f"activation_encodings.{name}"
        if isinstance(part, list):
            tensors.append(_channels(name, part, place))
            continue
        for end, found in (("input", inputs), ("output", tensors)):
            if part.get(end):
                found.append(_channels(name, list(part[end].values()), f"{place}.{end}"))
    return _imported((), weights=weights, tensors=tuple(tensors), inputs=tuple(inputs))


def _channels(name: str, channels: Sequence[_Encoding0], place: str) -> GivenBits:
    """Return the bits that all channels of a tensor have."""
    widths = {_checked(_integer(part.bitwidth, part.dtype), part.dtype, place) for part in channels}
    if len(widths) != 1:
        raise UserError(f"{place}: one width for all channels expected, not {len(widths)}")
    return GivenBits(name, widths.pop(), place)


def _integer(bits: int, dtype: str) -> Bits:
    return bits if dtype.lower() == "int" else None


def _checked(bits: Bits, dtype: str, place: str) -> Bits:
    """Return bits, or None for floats of 16 and 32 bits; raise UserError for others."""
    if bits is None and not _FLOAT.fullmatch(dtype.lower()):
        raise UserError(f"{place}: {dtype[:20]!r} is neither an integer of 1 to {MAX_BITS} bits nor float16 or float32")
    return None if bits is None else checked_bits(bits, place)


def _imported(entries: Sequence[_Encoding1 | _Encoding2], **bits: tuple[GivenBits, ...]) -> ImportedBits:
    has_blocks = any(entry.block_size is not None for entry in entries)
    return ImportedBits("AIMET encodings", may_have_others=True, notes=(_BLOCKS,) if has_blocks else (), **bits)

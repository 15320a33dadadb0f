"""Encodings of AIMET in the versions 1.0.0 and 2.0.0.

Encodings of activations are unsigned: value = (code + offset) * scale, with codes from 0 on. Those of weights are
symmetric.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from haq.exporters.onnx.graph import DISTRIBUTION
from haq.quantization.linear import QuantizerParameters

MIN_BITS = 2
"""Narrowest encoding of AIMET."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """Grid of a tensor.

    Attributes:
        name: Name of the tensor.
        bits: Bit width.
        scale: Step sizes: one, or one for each channel.
        zero_point: Code of zero among unsigned codes; None for symmetric signed codes.
        axis: Axis of the channels; None for one scale.
    """

    name: str
    bits: int
    scale: tuple[float, ...]
    zero_point: int | None = None
    axis: int | None = None


def activation_encoding(name: str, quantizer: QuantizerParameters) -> Encoding:
    """Return the encoding of an activation.

    Args:
        name: Name of the tensor.
        quantizer: Its quantizer.

    Returns:
        The encoding.
    """
    zero_point = quantizer.zero_point - quantizer.q_min
    return Encoding(name=name, bits=quantizer.bits, scale=(quantizer.scale,), zero_point=zero_point)


def version_1(weights: Sequence[Encoding], activations: Sequence[Encoding]) -> bytes:
    """Return the content of a file of version 1.0.0.

    Args:
        weights: Encodings of weights.
        activations: Encodings of activations.

    Returns:
        JSON.
    """
    sections = {"activation_encodings": activations, "param_encodings": weights}
    return _content("1.0.0", {name: [_listed(each) for each in part] for name, part in sections.items()})


def version_2(weights: Sequence[Encoding], activations: Sequence[Encoding]) -> bytes:
    """Return the content of a file of version 2.0.0.

    Args:
        weights: Encodings of weights.
        activations: Encodings of activations.

    Returns:
        JSON.
    """
    return _content("2.0.0", {"encodings": [_typed(each) for each in (*activations, *weights)]})


def _content(number: str, sections: Mapping[str, Any]) -> bytes:
    producer = {"package": DISTRIBUTION, "version": version(DISTRIBUTION)}
    return (json.dumps({"version": number, "producer": producer, **sections}, allow_nan=False) + "\n").encode()


def _listed(encoding: Encoding) -> dict[str, Any]:
    is_symmetric = encoding.zero_point is None
    offset = -(1 << encoding.bits - 1) if encoding.zero_point is None else -encoding.zero_point
    return {
        "name": encoding.name,
        "bw": encoding.bits,
        "dtype": "INT",
        "enc_type": "PER_TENSOR" if encoding.axis is None else "PER_CHANNEL",
        "is_sym": is_symmetric,
        "scale": list(encoding.scale),
        "offset": [offset] * len(encoding.scale),
    }


def _typed(encoding: Encoding) -> dict[str, Any]:
    sign = "int" if encoding.zero_point is None else "uint"
    found: dict[str, Any] = {"name": encoding.name, "output_dtype": f"{sign}{encoding.bits}"}
    if encoding.axis is not None:
        return {**found, "axis": encoding.axis, "y_scale": list(encoding.scale)}
    return {**found, "y_scale": encoding.scale[0], "y_zero_point": encoding.zero_point or 0}

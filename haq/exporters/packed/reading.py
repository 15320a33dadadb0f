"""Reading of packed files, which may come from anybody: sizes are checked before memory is allocated."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from haq.errors import UserError, validation_message
from haq.execution.user_code import one_line
from haq.exporters.packed.contents import PACKED, SCALE, SHAPE, Contents
from haq.exporters.packed.header import KEY, Header, PackedLayer, digest_of
from haq.exporters.packed.words import row_shape, unpack, word_count
from haq.file_limits import PACKED_HEADER
from haq.quantization.linear import QuantizedWeight

_DAMAGED = (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, OverflowError, RecursionError)
"""Exceptions of parsing a safetensors file."""


def read_packed(path: Path) -> Contents:
    """Read a packed file.

    Args:
        path: File.

    Returns:
        Its contents.

    Raises:
        UserError: The file cannot be read or is no packed file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return parse_packed(content, str(path))


def parse_packed(content: bytes, name: str = "the packed file") -> Contents:
    """Parse the content of a packed file. Nothing is unpickled or executed.

    Args:
        content: Content of the file.
        name: Name of the file, for messages.

    Returns:
        Header and tensors. The packed weights of every layer are there, in the shapes that its header gives.

    Raises:
        UserError: The content is no packed file or is damaged.
    """
    try:
        length = int.from_bytes(content[:8], "little")
        if length > PACKED_HEADER.max_bytes:
            raise ValueError(f"its header of {length} bytes is longer than {PACKED_HEADER.max_bytes}")
        tensors = load(content)
        found = json.loads(content[8 : 8 + length]).get("__metadata__", {}).get(KEY)
    except _DAMAGED as error:
        raise UserError(f"{name} is no packed file of haq, or is damaged: {one_line(error)}") from error
    if found is None:
        raise UserError(f"{name} is no packed file of haq: it has no header; write one with haq export --format packed")
    try:
        header = Header.model_validate_json(found)
    except ValidationError as error:
        raise UserError(f"{name} is no packed file of haq: {validation_message(error)}") from error
    if digest_of(header, tensors) != header.digest:
        raise UserError(f"{name} is damaged: it is not what was written; export it again")
    try:
        _require_weights(header, tensors)
    except ValueError as error:
        raise UserError(f"{name} is damaged: {error}; export it again") from error
    return Contents(header, tensors)


def unpacked(contents: Contents, place: int) -> QuantizedWeight | None:
    """Return the weights of a layer.

    Args:
        contents: Contents of a file.
        place: Position of the layer.

    Returns:
        Codes, and scales that include the batch norm where it was folded; None for weights in float, and for products
        of two activations.
    """
    owner = contents.header.owners[place]
    bits, layer = contents.header.policy.layers[owner], contents.header.layers[owner]
    if bits.w_bits is None or layer.product is not None:
        return None
    words, scale = (contents.tensors[f"{bits.name}.{part}"] for part in (PACKED, SCALE))
    codes = torch.from_numpy(unpack(words.numpy(), bits.w_bits, layer.shape))
    return QuantizedWeight(codes=codes, scale=scale[:, 0], bits=bits.w_bits, channel_axis=layer.channel_axis)


def _require_weights(header: Header, tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless every layer's tensors have the types and shapes of its weights."""
    for place, (bits, layer, owner) in enumerate(zip(header.policy.layers, header.layers, header.owners, strict=True)):
        if bits.w_bits != header.policy.layers[owner].w_bits:
            raise ValueError(
                f"{bits.name} has other bits than {header.policy.layers[owner].name}, whose weights it uses"
            )
        if owner == place and bits.w_bits is not None and layer.product is None:
            for part, (dtype, shape) in _expected(layer, bits.w_bits).items():
                tensor = tensors.get(f"{bits.name}.{part}")
                if tensor is None or tensor.dtype != dtype or tuple(tensor.shape) != shape:
                    raise ValueError(f"{bits.name} has no {part} of shape {list(shape)}")
            if tensors[f"{bits.name}.{SHAPE}"].tolist() != list(row_shape(layer.shape, bits.w_bits)):
                raise ValueError(f"{bits.name} has another {SHAPE} than its weights")


def _expected(layer: PackedLayer, bits: int) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    rows, columns = row_shape(layer.shape, bits)
    return {
        PACKED: (torch.int32, (rows, word_count(columns, bits))),
        SCALE: (torch.float32, (layer.channels, 1)),
        SHAPE: (torch.int64, (2,)),
    }

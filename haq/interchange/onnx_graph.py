"""Names of the tensors that each layer reads, from the ONNX file that belongs to an encodings file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from haq.errors import UserError
from haq.file_limits import ONNX, read_bytes
from haq.interchange.layer_names import LayerNames
from hardware_sim.layer import Layer

_MOVES = frozenset({"Flatten", "Reshape", "Transpose", "Identity", "MaxPool", "Pad", "Squeeze", "Unsqueeze", "Cast"})
"""Operators whose output has the bits of their input."""
MAX_MOVES = 20


def tensors_read(path: Path, layers: Sequence[Layer]) -> dict[str, tuple[str, ...]]:
    """Return the names of the tensors that each layer reads.

    Args:
        path: ONNX file, whose weights have the names of the state dict.
        layers: Layers of the network.

    Returns:
        Names by layer: the input of its operator, then what this is a reshaped form of.

    Raises:
        UserError: The file cannot be read, or none of its weights is that of a layer.
    """
    graph, names = _load(path).graph, LayerNames(layers)
    makers = {output: node for node in graph.node for output in node.output}
    known = (each.name for each in graph.initializer if isinstance(each.name, str))  # bytes where they are not UTF-8
    owners = {name: owner for name in known if (owner := names.of_parameter(name)) is not None}
    found: dict[str, tuple[str, ...]] = {}
    for node in graph.node:
        for weight in node.input[1:]:
            layer = next((owners[name] for name in _chain(weight, makers) if name in owners), None)
            if layer is not None and node.op_type not in _MOVES:
                found.setdefault(layer, _chain(node.input[0], makers))
    if not found:
        raise UserError(f"{path} has no weights of the network's layers; the encodings belong to another file")
    return found


def _load(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    content = read_bytes(path, ONNX)
    try:
        return onnx.load_model_from_string(content)
    except (DecodeError, RuntimeError, ValueError) as error:
        raise UserError(f"{path} is no ONNX file") from error


def _chain(name: str, makers: dict[str, Any]) -> tuple[str, ...]:
    """Return a tensor, and the tensors that it is a reshaped form of."""
    chain = [name]
    while len(chain) < MAX_MOVES and (node := makers.get(chain[-1])) is not None:
        if node.op_type not in _MOVES or not node.input:
            break
        chain.append(node.input[0])
    return tuple(chain)

"""Example input of a run as a safetensors file: a tensor, or a structure of tensors and plain values.

A structure is described by JSON in the file's metadata, with the tensors by name; nothing is unpickled.
"""

import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from haq.errors import UserError
from haq.execution.structures import Structure, item_count
from haq.runs.run_folder import EXAMPLE, RunFolder
from haq.runs.tensor_files import load_metadata, load_tensors, save_tensors

_INPUT = "input"
"""Name of the tensor, or prefix of the names of several."""
_STRUCTURE = "structure"
"""Key of the metadata; absent where the example is one tensor."""
_PLAIN = (type(None), bool, int, float, str)


def save_example(run: RunFolder, example: Structure) -> None:
    """Write the example input of a run.

    An example that contains anything but tensors, tuples, lists, dicts and plain values is not stored: readers then use
    the first calibration input.

    Args:
        run: Folder of the run.
        example: Input of one item, [1, ...].
    """
    if isinstance(example, Tensor):
        save_tensors(run.path / EXAMPLE, {_INPUT: example})
        return
    tensors: dict[str, Tensor] = {}
    try:
        description = json.dumps(_encoded(example, tensors), allow_nan=False)
    except (TypeError, ValueError):
        return
    save_tensors(run.path / EXAMPLE, tensors, metadata={_STRUCTURE: description})


def load_example(run: RunFolder) -> Structure | None:
    """Read the example input of a run.

    Args:
        run: Folder of the run.

    Returns:
        Input of one item, [1, ...]; None if none is stored.

    Raises:
        UserError: The file is damaged.
    """
    tensors = load_tensors(run.path / EXAMPLE)
    if tensors is None:
        return None
    try:
        description = load_metadata(run.path / EXAMPLE).get(_STRUCTURE)
        example = tensors[_INPUT] if description is None else _decoded(json.loads(description), tensors)
        count = item_count(example)
    except (LookupError, TypeError, ValueError, RecursionError):
        count = None
    if count != 1:
        path = run.path / EXAMPLE
        raise UserError(
            f"{path} is damaged: it holds no input of one item; delete {path.name} to trace the network again"
        )
    return example


def _encoded(part: Structure, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Describe a structure, and add its tensors to `tensors`. Raises TypeError for other values."""
    if isinstance(part, Tensor):
        name = f"{_INPUT}.{len(tensors)}"
        tensors[name] = part
        return {"tensor": name}
    if isinstance(part, Mapping):
        return {"dict": [[_plain(key), _encoded(value, tensors)] for key, value in part.items()]}
    if isinstance(part, tuple | list):
        return {"tuple" if isinstance(part, tuple) else "list": [_encoded(each, tensors) for each in part]}
    return {"value": _plain(part)}


def _decoded(node: Any, tensors: Mapping[str, Tensor]) -> Structure:
    """Restore a structure from its description. Raises LookupError, TypeError or ValueError if it is damaged."""
    if not isinstance(node, dict):
        raise TypeError(type(node).__name__)
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {_plain(key): _decoded(value, tensors) for key, value in content}
    if kind in ("tuple", "list"):
        parts = [_decoded(each, tensors) for each in content]
        return tuple(parts) if kind == "tuple" else parts
    if kind == "value":
        return _plain(content)
    raise ValueError(kind)


def _plain(value: Any) -> Any:
    if not isinstance(value, _PLAIN):
        raise TypeError(type(value).__name__)
    return value

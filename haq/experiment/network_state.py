"""Weights of a network that a run changed, as a safetensors file."""

import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from haq.errors import UserError
from haq.execution.user_code import one_line
from haq.runs.run_folder import RunFolder
from haq.runs.tensor_files import load_metadata, load_tensors, save_tensors

NETWORK = "network.safetensors"
_REST = "state"
"""Key of the file's metadata for values of the state dict that are no tensors."""


def storable_state(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split the state dict of a network into tensors and other values.

    Args:
        model: Any network.

    Returns:
        The tensors, and the other values, such as the extra state of modules, as plain JSON values.

    Raises:
        UserError: The state dict holds something else, which the message names.
    """
    try:
        state = model.state_dict()
    except Exception as error:  # a user's get_extra_state may raise anything
        raise UserError(f"the network gives no state_dict: {one_line(error)}") from error
    rest = {name: value for name, value in state.items() if not isinstance(value, Tensor)}
    unfit = [f"{name} ({type(value).__name__})" for name, value in rest.items() if not _is_json(value)]
    unfit += [f"{name} ({value.layout})" for name, value in state.items() if getattr(value, "is_sparse", False)]
    if unfit:
        raise UserError(
            f"the network cannot be saved: {', '.join(unfit)} in its state_dict; tensors and plain JSON values can"
        )
    return {name: value for name, value in state.items() if name not in rest}, rest


def save_state(run: RunFolder, values: Mapping[str, Any]) -> None:
    """Write a state dict of tensors and plain JSON values.

    Args:
        run: Folder of the run.
        values: State dict, with the values that `storable_state` allows.
    """
    tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    rest = {name: value for name, value in values.items() if name not in tensors}
    save_tensors(run.path / NETWORK, tensors, metadata={_REST: json.dumps(rest)} if rest else None)


def load_state(run: RunFolder) -> dict[str, Any] | None:
    """Read the state dict of a run; no code is run.

    Args:
        run: Folder of a run.

    Returns:
        Tensors and plain JSON values by name; None if the folder has no such file.

    Raises:
        UserError: The file is damaged.
    """
    tensors = load_tensors(run.path / NETWORK)
    if tensors is None:
        return None
    try:
        rest = json.loads(load_metadata(run.path / NETWORK).get(_REST, "{}"))
    except (ValueError, RecursionError):
        rest = None
    if not isinstance(rest, dict):
        raise UserError(f"{run.path / NETWORK} is damaged: its extra state is no JSON object")
    return {**tensors, **rest}


def _is_json(value: Any) -> bool:
    """Return whether a value is unchanged after it was written and read as JSON."""
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError, RecursionError):
        return False

"""Reading of trained weights, by the content of a file and not its name, without running code from it."""

import pickle
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn
from torch.nn.modules.module import _EXTRA_STATE_KEY_SUFFIX as _EXTRA_STATE
from torch.nn.parameter import is_lazy

from haq.errors import UserError
from haq.execution.networks import broken_tensors
from haq.execution.user_code import one_line
from haq.network.darknet_weights import is_darknet, other_model, read_darknet
from haq.runs.archives import BROKEN_FILE, archive_members, read_torch
from haq.tasks.tensor_kinds import unsupported_kind

FORMATS = "a torch archive of a state_dict, a safetensors file or an .npz without pickles"
WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts store the weights beside other things."""
PREFIXES = ("module.", "_orig_mod.")
"""Prefixes that nn.DataParallel and torch.compile add to every name."""


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a file, without common wrappers and prefixes.

    Args:
        path: Torch archive, safetensors file or .npz without pickles.

    Returns:
        Tensors on the CPU, by name.

    Raises:
        UserError: The file is missing, damaged or of another kind, or contains code. The message is one line.
    """
    return {name: value for name, value in _read(Path(path)).items() if isinstance(value, Tensor)}


def _read(path: Path) -> dict[str, Any]:
    """Return the tensors of a file, and the extra state of modules, which may be any object; see `read_weights`."""
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "is no regular file" if path.exists() else "does not exist"
        raise UserError(f"{path} {problem}; give a file with weights")
    with path.open("rb") as file:
        read = _reader(file)
        file.seek(0)
        if read is None and is_darknet(file.read(12)):
            raise other_model(path)
        if read is None:
            raise UserError(f"{path} is of an unknown kind; expected {FORMATS}")
    try:
        content = read(path)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} refused: {_pickle_problem(error)}; save a state_dict") from error
    except BROKEN_FILE as error:
        raise UserError(f"{path} cannot be read ({one_line(error)}); expected {FORMATS}") from error
    entries = _unwrap(content)
    tensors = {name: value for name, value in entries.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{path} holds no named tensors; expected {FORMATS}")
    unsupported = [f"{name} ({kind})" for name, tensor in tensors.items() if (kind := unsupported_kind(tensor))]
    if unsupported:
        raise UserError(f"{path} holds tensors that are no plain real ones: {_first_few(unsupported)}; save them dense")
    return entries


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a file's weights into a model, all or none.

    Extra state of modules is loaded if both the file and the model have it.

    Args:
        model: Model to change.
        path: Torch archive, safetensors file or .npz without pickles, or Darknet's file for one of its networks.

    Raises:
        UserError: The file cannot be read, or does not fit the model; the message names what does not fit.
    """
    entries, state = _entries(Path(path), model), model.state_dict()
    wanted = {name: value for name, value in state.items() if isinstance(value, Tensor) and not _is_extra(name)}
    others = {name: value for name, value in entries.items() if name in state.keys() - wanted.keys()}
    weights = {name: value for name, value in entries.items() if name not in others and not _is_extra(name)}
    # Files from before 2018 do not have this counter, which does not affect outputs.
    missing = [name for name in wanted if name not in weights and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in weights if name not in wanted]
    misshapen = [
        f"{name} {_shape(weights[name])} for {_shape(wanted[name])}"
        for name in wanted
        if name in weights and not is_lazy(wanted[name]) and weights[name].shape != wanted[name].shape
    ]
    groups = {
        "missing": missing,
        "not in the model": unexpected,
        "of another shape": misshapen,
        "shared in the model but not in the file": [] if misshapen else _untied(weights, wanted),
    }
    misfits = [f"{len(names)} {problem}: {_first_few(names)}" for problem, names in groups.items() if names]
    if misfits:
        raise UserError(f"{path} does not fit the model: {'; '.join(misfits)}")
    broken = broken_tensors(weights, {name for name, _ in model.named_buffers()})
    if broken:
        raise UserError(f"{path} holds NaN or infinity in {_first_few(broken)}; train or save it again")
    try:
        model.load_state_dict({**weights, **others}, strict=False)  # only counters may be missing
    except Exception as error:  # a user's set_extra_state may raise anything
        raise UserError(f"{path} does not fit the model: {one_line(error)}") from error


def _untied(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Return pairs of names that are one tensor in the model, such as tied weights, and differ in the file."""
    first: dict[tuple[int, torch.Size], str] = {}
    pairs = []
    for name, tensor in wanted.items():
        if name not in weights or is_lazy(tensor) or tensor.is_meta or not tensor.numel():
            continue
        other = first.setdefault((tensor.data_ptr(), tensor.shape), name)
        if name != other and not torch.equal(weights[name], weights[other]):
            pairs.append(f"{other} and {name}")
    return pairs


def _entries(path: Path, model: nn.Module) -> dict[str, Any]:
    """Return the tensors of a file by the names of a network's state; see `_read`."""
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(12)
        if is_darknet(head):
            return dict(read_darknet(path, model))
    return _read(path)


def _reader(file: BinaryIO) -> Callable[[Path], Any] | None:
    head = file.read(9)
    if head.startswith(b"PK"):
        return _read_zip
    if len(head) == 9 and head[8:] == b"{":
        return lambda path: load_safetensors(path.read_bytes())
    return read_torch if head.startswith(b"\x80") else None  # a pickle: torch before 1.6


def _read_zip(path: Path) -> Any:
    """Read a torch archive or a NumPy archive, which are both zip files."""
    members = archive_members(path)
    if any("/code/" in member for member in members):
        raise ValueError("a TorchScript archive; save the state_dict of the module")
    if not all(member.endswith(".npy") for member in members):
        return read_torch(path)
    with np.load(path, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files}


def _unwrap(content: Any) -> dict[str, Any]:
    while isinstance(content, Mapping):
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    entries = content if isinstance(content, Mapping) else {}
    found = {str(name): value for name, value in entries.items() if isinstance(value, Tensor) or _is_extra(str(name))}
    while found and (prefix := _shared_prefix(found)):
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    return found


def _is_extra(name: str) -> bool:
    """Return whether a name is that of a module's extra state."""
    return name.rpartition(".")[2] == _EXTRA_STATE


def _shared_prefix(names: Collection[str]) -> str | None:
    return next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in names)), None)


def _pickle_problem(error: pickle.UnpicklingError) -> str:
    wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
    if wanted:
        return f"the file wants to run code ({wanted[1]})"
    # Torch's message also contains advice to load the file unsafely.
    reason = re.search(r"WeightsUnpickler error:\s*(.{1,200}?)(?: Please use|$)", str(error), re.MULTILINE)
    return "not a plain state_dict" + (f" ({reason[1]})" if reason else "")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _first_few(names: list[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")

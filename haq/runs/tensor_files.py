"""Tensors in safetensors files, written atomically."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from haq.errors import UserError
from haq.files import write_atomically


def load_tensors(path: Path) -> dict[str, Tensor] | None:
    """Read the tensors of a file.

    Args:
        path: The file.

    Returns:
        Tensors by name; None if the file is missing.

    Raises:
        UserError: The file is damaged.
    """
    try:
        return load(path.read_bytes()) if path.is_file() else None
    except SafetensorError as error:
        raise UserError(f"{path} is damaged: {error}") from error


def load_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a file.

    Args:
        path: The file, which must exist.

    Returns:
        Texts by key.

    Raises:
        UserError: The file is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise UserError(f"{path} is damaged: {error}") from error


def save_tensors(path: Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None = None) -> None:
    """Write a file atomically.

    Args:
        path: File to write; its folder must exist.
        tensors: Tensors by name; several names may refer to one tensor, as for tied layers.
        metadata: Texts by key, stored in the file's header.

    Raises:
        OSError: The file cannot be written.
    """
    copies = {key: tensor.clone(memory_format=torch.contiguous_format) for key, tensor in tensors.items()}
    write_atomically(path, save(copies, metadata=dict(metadata) if metadata else None))

"""Darknet's files of weights: a header, and the float32 values of all convolutions in the order of the network.

The header holds three int32, the version, and the number of images seen in training: int64 from version 0.2 on, int32
before. A convolution with a batch norm has biases, scales, means and variances of the norm and then weights; another
one biases and weights. All are little-endian.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from haq.errors import UserError
from haq.files import write_atomically
from haq.network.models.yolo.blocks import Convolution

VERSION = (0, 2, 5)
"""Version of written files, that of Darknet for YOLOv4."""
_VERSION = struct.Struct("<3i")


def is_darknet(head: bytes) -> bool:
    """Return whether a file begins like one of Darknet's weights.

    Args:
        head: First 12 bytes of the file.

    Returns:
        Whether they are a version from 0.1.0 to 0.9.9.

    Examples:
        >>> is_darknet(struct.pack("<3i", 0, 2, 5)), is_darknet(b"PK")
        (True, False)
    """
    if len(head) < _VERSION.size:
        return False
    major, minor, revision = (int(number) for number in _VERSION.unpack_from(head))
    return major == 0 and 1 <= minor <= 9 and 0 <= revision <= 9


def other_model(path: Path) -> UserError:
    """Return the error for a model that Darknet's weights do not fit.

    Args:
        path: File of the weights.

    Returns:
        The error.
    """
    return UserError(
        f"{path} holds Darknet's weights, which fit yolov4, yolov4_tiny and darknet:FILE.cfg; this model is another"
    )


def read_darknet(path: Path, model: nn.Module) -> dict[str, Tensor]:
    """Read the weights of a network from Darknet's file.

    Args:
        path: The file, for which `is_darknet` holds.
        model: Network of `Convolution` blocks, whose modules are in the order of Darknet's layers.

    Returns:
        Tensors by their names in the network's state.

    Raises:
        UserError: The network is of other layers, or the file does not hold exactly its values.
    """
    names = list(_names(model))
    state = model.state_dict()
    others = [name for name in state.keys() - set(names) if not name.endswith("num_batches_tracked")]
    if others or not names:
        raise other_model(path)
    expected = sum(state[name].numel() for name in names)
    with path.open("rb") as file:
        _, minor, _ = _VERSION.unpack(file.read(_VERSION.size))
        header = _VERSION.size + (8 if minor >= 2 else 4)
        size = path.stat().st_size - header
        if size != 4 * expected:
            raise UserError(
                f"{path} holds {size / 4:.10g} values, and the model needs {expected}; "
                "it is of another network or incomplete"
            )
        file.seek(header)
        values = torch.from_numpy(np.frombuffer(file.read(size), "<f4").astype(np.float32))
    parts = torch.split(values, [state[name].numel() for name in names])
    found = {name: part.view(state[name].shape) for name, part in zip(names, parts, strict=True)}
    for name, tensor in found.items():
        if name.endswith("running_var") and (tensor < 0).any():
            raise UserError(f"{path} has negative variances for {name}; it is of another network")
    return found


def write_darknet(model: nn.Module, path: str | Path, *, seen: int = 0) -> None:
    """Write the weights of a network as Darknet's file.

    Args:
        model: Network of `Convolution` blocks, whose modules are in the order of Darknet's layers.
        path: File to write.
        seen: Number of images seen in training.
    """
    state = model.state_dict()
    values = [state[name].detach().cpu().numpy().astype("<f4").tobytes() for name in _names(model)]
    write_atomically(Path(path), b"".join([struct.pack("<3iq", *VERSION, seen), *values]))


def _names(model: nn.Module) -> Iterator[str]:
    """Iterate over the names of tensors in the order of Darknet's file."""
    for path, module in model.named_modules():
        if isinstance(module, Convolution):
            if module.norm is None:
                yield f"{path}.conv.bias"
            else:
                yield from (f"{path}.norm.{name}" for name in ("bias", "weight", "running_mean", "running_var"))
            yield f"{path}.conv.weight"

"""What tells two networks with their data and quantizers apart: their tensors, and what they answer, bit by bit.

An evaluation depends on weights, data, calibration, quantizers, corrections, engine, threads, versions of libraries and
of this program. A list of all that would be wrong as soon as something is added to it. So the network is run as well:
in float on all data, and on a few with policies in which every layer takes every width. What changes many layers or
many widths has another key; rounding in later layers can hide a tiny change of one layer's quantizer at one width. It
could hide a changed weight too, more or less often from processor to processor, so tensors count by themselves.
"""

from hashlib import blake2b
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from haq.evaluation.protocols import Engine
from haq.execution.structures import Structure, take, tensors
from haq.policy import PolicyBits

PROBE_ITEMS = 16
_KEY_BYTES = 16


_PROBED: "WeakKeyDictionary[Engine, dict[bytes, str]]" = WeakKeyDictionary()
"""Keys of engines that are in use: the searches of a sweep share an engine, and probe it once."""


@torch.no_grad()
def fingerprint(engine: Engine, inputs: Structure, *, layers: int, settings: tuple[Any, ...], data: bytes) -> str:
    """The key of everything that an engine says of one split.

    `data` is a digest of the split and the float outputs on it, `settings` are those that outputs do not show. The
    network's parameters and buffers are hashed, and a few of `inputs` [n, ...] run with the policies of
    `probe_policies`.
    """
    digest = blake2b(data, digest_size=_KEY_BYTES)
    digest.update(repr((engine.name, engine.images_per_policy, torch.get_num_threads(), layers, settings)).encode())
    hash_network(digest, engine.model)
    known, start = _PROBED.setdefault(engine, {}), digest.digest()
    if start not in known:
        few = take(inputs, slice(PROBE_ITEMS))
        for bits in probe_policies(layers):
            hash_tensors(digest, engine.runner(bits)(few))
        known[start] = digest.hexdigest()
    return known[start]


def float_key(*, settings: tuple[Any, ...], data: bytes) -> str:
    """The key of one split for evaluations that are kept no longer than the engine that makes them: without probes."""
    digest = blake2b(data, digest_size=_KEY_BYTES)
    digest.update(repr(settings).encode())
    return digest.hexdigest()


def probe_policies(layers: int) -> "list[PolicyBits]":
    """Eight policies in which every layer takes every width once.

    >>> probe_policies(3)[0]
    ((1, 2, 3), (8, 7, 6))
    """
    return [
        (
            tuple((layer + shift) % 8 + 1 for layer in range(layers)),
            tuple(8 - (layer + 3 * shift) % 8 for layer in range(layers)),
        )
        for shift in range(8)
    ]


def weights_hash(model: nn.Module) -> str:
    """Hash the parameters and buffers of a network, as policy files name it.

    Args:
        model: Float network.

    Returns:
        32 hexadecimal digits.
    """
    digest = blake2b(digest_size=_KEY_BYTES)
    hash_network(digest, model)
    return digest.hexdigest()


def hash_network(digest: Any, model: nn.Module) -> None:
    """Add the names and values of a network's parameters and buffers to a hash."""
    for named in (model.named_parameters(), model.named_buffers()):
        for name, tensor in named:
            digest.update(name.encode())
            hash_tensor(digest, tensor)


def hash_tensors(digest: Any, structure: Structure) -> None:
    """Add the types, shapes and bytes of all tensors of a structure to a hash."""
    for tensor in tensors(structure):
        hash_tensor(digest, tensor)


def hash_tensor(digest: Any, tensor: Tensor) -> None:
    """Add a tensor's type, shape and bytes to a hash."""
    digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(tensor.cpu().flatten().view(torch.uint8).numpy().data)

"""Keys of evaluations: hashes of a network's tensors, and of its outputs for policies that probe all quantizers.

An evaluation depends on weights, data, calibration, quantizers, corrections, engine, threads, and the versions of
libraries and of this program. A list of these would be incomplete after each addition. So the network is run as well:
in float on all data, and on a few items with policies in which every layer takes every bit width. A change of many
layers or many bit widths changes the key; rounding in later layers can hide a tiny change of one layer's quantizer at
one bit width. Rounding could hide a changed weight as well, depending on the processor, so tensors are hashed
separately.
"""

import inspect
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from haq.evaluation.protocols import Engine
from haq.execution.structures import Structure, take, tensors
from haq.policy import PolicyBits

PROBE_ITEMS = 16
"""Number of inputs that each probe policy is run on."""
_KEY_BYTES = 16


_PROBED: "WeakKeyDictionary[Engine, dict[bytes, str]]" = WeakKeyDictionary()
"""Keys of engines in use, by engine and hash before probing: searches that share an engine probe it once."""


@torch.no_grad()
def fingerprint(engine: Engine, inputs: Structure, *, layers: int, settings: tuple[Any, ...], data: bytes) -> str:
    """Compute the key of evaluations by an engine on one split.

    The network's parameters and buffers are hashed, and the first items of `inputs` are run with `probe_policies`.

    Args:
        engine: Engine that evaluates policies.
        inputs: A batch of inputs of the split, [n, ...].
        layers: Number of layers of the network.
        settings: Settings that outputs do not depend on, such as the name of the metric.
        data: Hash of the split and of the float outputs on it.

    Returns:
        The key, 32 hexadecimal digits.
    """
    digest = blake2b(data, digest_size=_KEY_BYTES)
    digest.update(repr((engine.name, engine.images_per_policy, torch.get_num_threads(), layers, settings)).encode())
    hash_network(digest, engine.model)
    keys, start = _PROBED.setdefault(engine, {}), digest.digest()
    if start not in keys:
        few = take(inputs, slice(PROBE_ITEMS))
        for bits in probe_policies(layers):
            hash_tensors(digest, engine.runner(bits)(few))
        keys[start] = digest.hexdigest()
    return keys[start]


def float_key(*, settings: tuple[Any, ...], data: bytes) -> str:
    """Compute the key of one split without probes, for evaluations that are kept no longer than the engine.

    Args:
        settings: Settings that outputs do not depend on, such as the name of the metric.
        data: Hash of the split and of the float outputs on it.

    Returns:
        The key, 32 hexadecimal digits.
    """
    digest = blake2b(data, digest_size=_KEY_BYTES)
    digest.update(repr(settings).encode())
    return digest.hexdigest()


def probe_policies(layers: int) -> "list[PolicyBits]":
    """Return eight policies in which each layer takes each bit width once.

    Args:
        layers: Number of layers.

    Returns:
        (w_bits, a_bits) of each policy.

    Examples:
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
    """Compute the hash of a network's parameters and buffers that policy files contain.

    Args:
        model: Float network.

    Returns:
        32 hexadecimal digits.
    """
    digest = blake2b(digest_size=_KEY_BYTES)
    hash_network(digest, model)
    return digest.hexdigest()


def hash_network(digest: Any, model: nn.Module) -> None:
    """Add the names and values of a network's parameters and buffers to a hash.

    Args:
        digest: Hash object of `hashlib`, which is updated.
        model: Network.
    """
    for named in (model.named_parameters(), model.named_buffers()):
        for name, tensor in named:
            digest.update(name.encode())
            hash_tensor(digest, tensor)


def hash_code(digest: Any, model: nn.Module, *files: str) -> None:
    """Add the modules of a network, the source files of their classes, except torch's, and other files to a hash.

    Args:
        digest: Hash object of `hashlib`, which is updated.
        model: Network.
        *files: Paths of further files.
    """
    digest.update(repr(model).encode())
    for path in sorted({*files, *_sources(model)}):
        digest.update(Path(path).read_bytes())


def _sources(model: nn.Module) -> Iterator[str]:
    for kind in {type(module) for module in model.modules()}:
        if kind.__module__.partition(".")[0] != "torch":
            with suppress(TypeError):  # has no source file
                yield inspect.getfile(kind)


def hash_tensors(digest: Any, structure: Structure) -> None:
    """Add the dtypes, shapes and bytes of all tensors of a structure to a hash.

    Args:
        digest: Hash object of `hashlib`, which is updated.
        structure: Structure of tensors on any device.
    """
    for tensor in tensors(structure):
        hash_tensor(digest, tensor)


def hash_tensor(digest: Any, tensor: Tensor) -> None:
    """Add the dtype, shape and bytes of a tensor to a hash.

    Args:
        digest: Hash object of `hashlib`, which is updated.
        tensor: Tensor on any device.
    """
    digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(tensor.cpu().flatten().view(torch.uint8).numpy().data)

"""Cache of what depends on a network and its calibration data alone: quantizers, and losses of layers.

Computing them takes minutes for a large network, and searches for several devices and budgets need the same. The key is
a hash of the network, the calibration inputs, the settings, the source files that compute them, the versions of the
libraries and the kind of processor. Stored values are those that would be computed, bit for bit.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from haq.evaluation.fingerprint import hash_code, hash_network, hash_tensors
from haq.execution.progress import Progress, no_progress
from haq.execution.structures import device_of
from haq.experiment.prior.layer_losses import LayerLosses
from haq.experiment.problem import PricedModel
from haq.files import write_atomically
from haq.policy import PolicyBits
from haq.quantization.quantizers import Quantizers
from haq.quantization.range import ALL_BITS
from haq.runs.cache import cache_dir

WORTH_STORING_S = 5.0
"""Seconds that computing has to take for its result to be stored."""
LARGEST_BYTES = 2**28
"""Largest size of quantizers that are stored."""
_WARNING = "warning"
_PACKAGES = ("quantization", "experiment", "network", "evaluation", "tasks")


def preparation_key(priced: PricedModel, quantizers: Quantizers, *more: object) -> str:
    """Compute the key of what depends on a network, its calibration inputs and the settings of its quantizers.

    The sizes of the batches of calibration inputs count, since rounding and the sampling of positions depend on them.

    Args:
        priced: The network with its trace.
        quantizers: Its quantizers.
        *more: Further settings.

    Returns:
        The key, 32 hexadecimal digits.
    """
    digest = blake2b(digest_size=16)
    device = device_of(tuple(priced.model.parameters()))
    machine = (torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), str(device))
    versions = (torch.__version__, np.__version__)
    digest.update(repr((versions, machine, priced.trace, quantizers.options, more)).encode())
    hash_network(digest, priced.model)
    folder = Path(__file__).parents[1]
    hash_code(digest, priced.model, *(str(path) for name in _PACKAGES for path in (folder / name).rglob("*.py")))
    for inputs in quantizers.calibration_inputs():
        hash_tensors(digest, inputs)
    return digest.hexdigest()


def ensure_quantizers(
    priced: PricedModel,
    quantizers: Quantizers,
    *,
    policies: Sequence[PolicyBits] = (),
    quantize: Callable[[], object] | None = None,
    progress: Progress = no_progress,
) -> None:
    """Load quantizers of a network from the cache, or compute them and store them.

    Args:
        priced: The network with its trace.
        quantizers: Its quantizers, of which none is computed yet.
        policies: Policies that need them, which quantizers of all widths serve too; empty for all widths.
        quantize: Function that quantizes weights to the widths that are needed if nothing is stored; None for all of
            `policies`.
        progress: Receives the name of every phase.

    Raises:
        UserError: The cache folder cannot be used, or activations are not finite.
    """
    layers, key = len(priced.layers), preparation_key(priced, quantizers)
    every = [((width,) * layers, (width,) * layers) for width in ALL_BITS]
    progress("calibrate")
    if _load_quantizers(_quantizers_path(key), quantizers, every):
        return
    path, wanted = _quantizers_path(key, *policies), policies or every
    if policies and _load_quantizers(path, quantizers, wanted):
        return
    start = time.monotonic()
    _ = quantizers.calibration  # runs the calibration inputs
    progress("round weights (GPTQ)" if quantizers.options.rounding == "gptq" else "quantize weights")
    if quantize is None:
        _tensors(quantizers, wanted)
    else:
        quantize()
    if time.monotonic() - start < WORTH_STORING_S:
        return
    found = _tensors(quantizers, wanted)
    if sum(tensor.nbytes for tensor in found.values()) <= LARGEST_BYTES:
        write_atomically(path, save(found | {_WARNING: _as_bytes(quantizers.activations.warning)}))


def ensure_losses(key: str, compute: Callable[[], LayerLosses]) -> LayerLosses:
    """Load the losses of layers from the cache, or compute them and store them.

    Args:
        key: Result of `preparation_key`.
        compute: Function that computes the losses.

    Returns:
        The losses.

    Raises:
        UserError: The cache folder cannot be used.
    """
    path = cache_dir() / f"losses-{key}.npz"
    found = _load_losses(path)
    if found is not None:
        return found
    start = time.monotonic()
    found = compute()
    if time.monotonic() - start >= WORTH_STORING_S:
        content = BytesIO()
        np.savez(content, losses=found.losses, forward_images=found.forward_images, warnings=json.dumps(found.warnings))
        write_atomically(path, content.getvalue())
    return found


def _quantizers_path(key: str, *policies: PolicyBits) -> Path:
    """Return the file of the quantizers of some policies, or of all widths if there are none."""
    name = blake2b(repr((key, policies)).encode(), digest_size=16).hexdigest()
    return cache_dir() / f"quantizers-{name}.safetensors"


def _tensors(quantizers: Quantizers, policies: Sequence[PolicyBits]) -> dict[str, Tensor]:
    """Return the parameters of the quantizers of some policies by the number of the policy and by name.

    They are copies, since policies may share quantizers, and a file may not hold the same memory twice.
    """
    return {
        f"{number}/{name}": tensor.clone()
        for number, bits in enumerate(policies)
        for name, tensor in quantizers.tensors(*bits).items()
    }


def _load_quantizers(path: Path, quantizers: Quantizers, policies: Sequence[PolicyBits]) -> bool:
    """Load the quantizers of some policies from a file; return whether it is there and undamaged."""
    try:
        found = load(path.read_bytes())
        warning = json.loads(bytes(found.pop(_WARNING).tolist()))
        for number, bits in enumerate(policies):
            quantizers.load(_of_policy(found, number), *bits)
    except (OSError, SafetensorError, KeyError, ValueError):
        return False
    quantizers.activations.know_warning(warning)
    return True


def _of_policy(tensors: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    prefix = f"{number}/"
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _as_bytes(warning: str | None) -> Tensor:
    return torch.tensor(list(json.dumps(warning).encode()), dtype=torch.uint8)


def _load_losses(path: Path) -> LayerLosses | None:
    """Return the losses of a file; None if it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            warnings = tuple(json.loads(str(arrays["warnings"])))
            return LayerLosses(arrays["losses"], int(arrays["forward_images"]), warnings)
    except (OSError, EOFError, BadZipFile, KeyError, ValueError):
        return None

"""Check that removing a policy leaves torchvision's image classification networks unchanged, bit for bit.

Every network below 30 M parameters is built with random weights and several hooks. A policy of mixed bits is applied,
calibrated, run on two random images and removed. The script compares the bytes of every parameter and buffer, every
attribute of every module (submodules, hooks, training flags, gradients), torch's global hooks and the float outputs.
Prints Markdown, and fails at the first difference.

    python scripts/experiments/survey_restoration.py > results/restoration.md
"""

import argparse
import gc
import hashlib
import logging
import time
import warnings
from collections.abc import Mapping
from itertools import cycle, islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_modules
from torchvision import models

from haq.errors import UserError
from haq.network.layers import Trace, trace
from haq.network.zoo import default_input_shape
from haq.quantization.options import QuantizerOptions
from haq.quantization.quantized_model import QuantizedModel
from haq.quantization.quantizers import Quantizers
from haq.runs.environment import describe_environment
from hardware_sim.cost import Bits

PARAMETER_LIMIT = 30_000_000
SIDES = (64, 96)
"""Image sizes in pixels that are tried before the network's default size; small images save time."""
W_BITS: tuple[Bits, ...] = (8, 5, None, 2, 4, 7, 3, 6)
A_BITS: tuple[Bits, ...] = (8, None, 6, 4, 2, 7, 5, 3, 8)
OPTIONS = QuantizerOptions(method="max")
"""The method that is the fastest to calibrate."""


def survey(name: str, model: nn.Module) -> tuple[Trace, Tensor]:
    """Apply a policy to a network and remove it; raise RuntimeError if anything differs afterwards."""
    add_habits(model)
    before = contents(model)
    found, images = traced(name, model)
    outputs = model(images)
    quantized = QuantizedModel(model, found, Quantizers(model, found, lambda: [images], OPTIONS))
    count = len(found.layers)
    quantized.set_bits(list(islice(cycle(W_BITS), count)), list(islice(cycle(A_BITS), count)))
    if torch.equal(quantized(images), outputs):
        raise RuntimeError(f"{name}: the policy changed nothing, so that there is nothing to restore")
    del quantized
    gc.collect()
    if not torch.equal(model(images), outputs):
        raise RuntimeError(f"{name}: the float outputs differ")
    after = contents(model)
    different = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
    if different:
        raise RuntimeError(f"{name}: {', '.join(sorted(different)[:5])} differ")
    return found, images


def traced(name: str, model: nn.Module) -> tuple[Trace, Tensor]:
    """Return a network's trace, and two random images of the smallest size that it runs on."""
    default = default_input_shape(f"torchvision:{name}") or (3, 224, 224)
    for side in (*SIDES, default[-1]):
        images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
        try:
            return trace(model, images[:1]), images
        except UserError:
            if side == default[-1]:
                raise
    raise AssertionError("the last size returns or raises")


def build(name: str) -> nn.Module:
    """Build a network in evaluation mode with torch's random initialization."""
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    torch.manual_seed(0)
    model: nn.Module = models.get_model(name, weights=None, **options)
    return model.eval()


def add_habits(model: nn.Module) -> None:
    """Add hooks of every kind, a module in training mode and a frozen parameter."""
    module: Any  # torch has no types for all of these
    for module in (model, list(model.modules())[-1]):
        module.register_forward_pre_hook(lambda _module, _inputs: None)
        module.register_forward_hook(lambda _module, _inputs, _output: None)
        module.register_full_backward_pre_hook(lambda _module, _gradients: None)
        module.register_full_backward_hook(lambda _module, _inputs, _outputs: None)
        module.register_state_dict_pre_hook(lambda _module, _prefix, _keep: None)
        module.register_state_dict_post_hook(lambda _module, _state, _prefix, _metadata: None)
        module.register_load_state_dict_pre_hook(lambda *_: None)
        module.register_load_state_dict_post_hook(lambda _module, _keys: None)
    next(module for module in model.modules() if isinstance(module, nn.Conv2d)).train()
    next(model.parameters()).requires_grad = False


def contents(model: nn.Module) -> dict[str, Any]:
    """Return everything to compare: bytes of tensors by name, and the identities of all attributes."""
    found: dict[str, Any] = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        digest = hashlib.sha256(tensor.detach().numpy().tobytes()).hexdigest()
        found[f"tensor {name}"] = (id(tensor), digest, tensor.requires_grad, tensor.grad is None, tensor.data_ptr())
    for name, module in model.named_modules():
        found |= {f"{name}.{key}": identity(value) for key, value in vars(module).items()}
    hooks = {key: value for key, value in vars(torch_modules).items() if key.startswith("_global_")}
    return found | {key: identity(value) for key, value in hooks.items()}


def identity(value: Any) -> Any:
    """Return the identity of an object; of a dictionary, the identities of its values too."""
    if isinstance(value, Mapping):
        return id(value), [(key, id(item)) for key, item in value.items()]
    return id(value)


def below_limit() -> list[str]:
    """Return the names of the networks with few enough parameters."""
    return [
        name
        for name in models.list_models(module=models)
        if min(weights.meta["num_params"] for weights in models.get_model_weights(name)) < PARAMETER_LIMIT
    ]


@torch.no_grad()
def main() -> None:
    """Print a row for every network, and the count."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    start, names = time.process_time(), below_limit()
    print("# Networks after a policy was removed\n")
    print("| network | parameters | images | layers | tensors compared | modules compared |")
    print("|---|---|---|---|---|---|")
    for name in names:
        model = build(name)
        found, images = survey(name, model)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        tensors = len([*model.parameters(), *model.buffers()])
        shape = "x".join(str(size) for size in images.shape)
        modules = len([*model.modules()])
        print(f"| {name} | {parameters:,} | {shape} | {len(found.layers)} | {tensors} | {modules} |", flush=True)
    print(
        f"\n{len(names)} networks below {PARAMETER_LIMIT // 10**6} M parameters: every parameter and buffer as before, "
        "bit for bit; every hook list, training flag, submodule and other attribute the same object; float outputs "
        f"equal. {time.process_time() - start:.0f} CPU-seconds."
    )
    packages = describe_environment(seed=0, device="cpu")["packages"]
    versions = ", ".join(f"{package} {version}" for package, version in packages.items() if version)
    print(f"\nMade with `python scripts/experiments/survey_restoration.py`; {versions}.")


if __name__ == "__main__":
    main()

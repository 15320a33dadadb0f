"""What `haq` finds in every image classification network of torchvision: layers, weights, MACs, and what it refuses.

Networks are built on torch's meta device, without weights. MACs are held against two other counters on what all count,
convolutions and linear layers with the projections of attention: torch's own for every network, and fvcore's, which has
to run the network for real, for those below a giga-MAC. Prints Markdown.

    pip install fvcore
    python scripts/survey_torchvision.py > results/torchvision.md
"""

import logging
import warnings
from collections import Counter

import torch
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from haq.environment import describe_environment
from haq.layers import Trace, trace
from haq.zoo import usual_input

TORCH_COUNTS = ("convolution", "mm", "addmm")
FVCORE_COUNTS = ("conv", "linear", "addmm")
FVCORE_LIMIT = 10**9


def survey(name: str) -> Trace:
    """A network's trace; raises RuntimeError if a counter disagrees with it."""
    model, example = build(name, "meta")
    found = trace(model, example)
    macs = sum(layer.macs for layer in found.layers)
    counts = {"torch": torch_macs(model, example)}
    if macs < FVCORE_LIMIT:
        counts["fvcore"] = fvcore_macs(*build(name, "cpu"))
    different = {counter: count for counter, count in counts.items() if count != macs}
    if different:
        raise RuntimeError(f"{name}: {macs} MACs, but {different}")
    return found


def build(name: str, device: str) -> tuple[nn.Module, Tensor]:
    """A network in evaluation mode, and one input."""
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    size = usual_input(f"torchvision:{name}") or (3, 224, 224)
    try:
        with torch.device(device):
            model: nn.Module = models.get_model(name, weights=None, **options)
    except NotImplementedError:  # RegNets compute with tensors while they are built, which meta tensors cannot
        model = models.get_model(name, weights=None, **options).to(device)
    return model.eval(), torch.zeros(1, *size, device=device)


def torch_macs(model: nn.Module, example: Tensor) -> int:
    """Half the floating-point operations that torch counts in convolutions and linear layers."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(example)
    flops = counter.get_flop_counts()["Global"]
    return int(sum(count for operator, count in flops.items() if operator.__name__ in TORCH_COUNTS)) // 2


def fvcore_macs(model: nn.Module, example: Tensor) -> int:
    """What fvcore counts there."""
    counted = FlopCountAnalysis(model, example).unsupported_ops_warnings(enabled=False).by_operator()
    return sum(int(counted[operator]) for operator in FVCORE_COUNTS)


def main() -> None:
    """Print a row for every network, and the sums."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    names = models.list_models(module=models)
    print("# Layers found in torchvision's classification networks\n")
    print("| network | layers | depthwise | weights | MACs | refused |")
    print("|---|---|---|---|---|---|")
    for name in names:
        found = survey(name)
        macs = sum(layer.macs for layer in found.layers)
        weights = sum(layer.weight_count for layer in found.layers)
        depthwise = sum(layer.kind == "depthwise" for layer in found.layers)
        reasons = Counter(each.reason for each in found.refused)
        refused = "; ".join(f"{count}x {reason}" for reason, count in reasons.items()) or "-"
        print(f"| {name} | {len(found.layers)} | {depthwise} | {weights:,} | {macs:,} | {refused} |", flush=True)
    print(f"\n{len(names)} networks, none refused as a whole; all MACs equal both counters'.")
    packages = describe_environment(seed=0, device="cpu")["packages"]
    print(
        "\nMade with `python scripts/survey_torchvision.py`; "
        + ", ".join(f"{k} {v}" for k, v in packages.items() if v)
        + "."
    )


if __name__ == "__main__":
    main()

"""Check that every weight and MAC of the networks of torchvision and timm is in a layer or named as left in float.

Networks have random weights or, on torch's meta device, none. Their MACs are counted by torch's own counter as well;
weights are all parameters of two or more dimensions. What is neither in a layer nor named is an error: it is printed in
the table, and the script ends with exit code 1. Prints Markdown.

    pip install timm
    python scripts/experiments/survey_torchvision.py > results/torchvision.md
"""

import argparse
import logging
import re
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from haq.errors import UserError
from haq.network.layers import Trace, trace
from haq.network.tracing.weighted_calls import WeightSlice
from haq.network.zoo import default_input_shape
from haq.runs.environment import describe_environment

SEED = 0
SMALL = {"min_size": 128, "max_size": 128}
"""Input sizes of detectors, which resize their images."""
RUN = ("detection",)
"""Modules of torchvision whose networks need values, not only shapes."""
VIDEO_SIZES = {"mvit": (3, 16, 224, 224), "s3d": (3, 14, 224, 224), "swin3d": (3, 8, 64, 64)}
TIMM = (
    "beit_base_patch16_224", "botnet26t_256", "cait_xxs24_224", "caformer_s18", "coat_tiny",
    "coatnet_nano_rw_224", "convit_tiny", "convmixer_768_32", "convnext_atto", "convnextv2_atto",
    "crossvit_9_240", "cspresnet50", "davit_tiny", "deit3_small_patch16_224", "densenet121", "dla34", "dpn68",
    "edgenext_xx_small", "efficientformer_l1", "efficientformerv2_s0", "efficientnet_b0", "efficientvit_b0",
    "eva02_tiny_patch14_224", "fastvit_t8", "focalnet_tiny_srf", "gcvit_xxtiny", "ghostnet_100", "gmlp_s16_224",
    "hardcorenas_a", "hgnetv2_b0", "hiera_tiny_224", "hrnet_w18_small", "inception_v4", "inception_next_tiny",
    "lambda_resnet26t", "lcnet_050", "levit_128s", "maxvit_tiny_tf_224", "mixer_s32_224",
    "mobilenetv4_conv_small", "mobilevit_xxs", "mobilevitv2_050", "mvitv2_tiny", "nf_regnet_b0", "nfnet_f0",
    "pit_ti_224", "poolformer_s12", "pvt_v2_b0", "regnety_002", "repvgg_a0", "repvit_m0_9", "res2net50_14w_8s",
    "resnest14d", "resnetv2_50", "rexnet_100", "selecsls42", "sequencer2d_s", "skresnet18", "starnet_s1",
    "swin_tiny_patch4_window7_224", "swinv2_cr_tiny_224", "tf_efficientnet_cc_b0_4e", "tiny_vit_5m_224",
    "tnt_s_patch16_224", "tresnet_m", "twins_pcpvt_small", "vgg11", "visformer_tiny", "vit_tiny_patch16_224",
    "vitamin_small_224", "volo_d1_224", "xcit_nano_12_p16_224",
)  # fmt: skip


@dataclass(frozen=True)
class Account:
    """Numbers of weights or MACs in layers, named as left in float, and in total."""

    in_layers: int
    named: int
    total: int

    @property
    def neither(self) -> int:
        """Return what is in no layer and not named."""
        return self.total - self.in_layers - self.named

    def __str__(self) -> str:
        shares = (f"{100 * part / max(1, self.total):.2f} %" for part in (self.in_layers, self.named))
        return f"{self.total:,} | {' | '.join(shares)} | {self.neither:,}"


def survey(model: nn.Module, example: Tensor) -> tuple[Trace, Account, Account]:
    """Return a network's trace, and the accounts of its weights and MACs."""
    model.eval().requires_grad_(requires_grad=False)  # views of what needs them fail in the counter
    found = trace(model, example)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(example)
    macs = Account(
        sum(layer.macs for layer in found.layers),
        sum(refused.macs or 0 for refused in found.refused),
        counter.get_total_flops() // 2,
    )
    return found, weights(model, found), macs


def weights(model: nn.Module, found: Trace) -> Account:
    """Count the elements of parameters of two or more dimensions: in layers, or named."""
    used: defaultdict[str, set[tuple[int, int]]] = defaultdict(set)
    for each in (site.weights for site in found.sites if isinstance(site.weights, WeightSlice)):
        used[each.parameter].add((each.offset, prod(each.shape)))
    names = {refused.name for refused in found.refused}
    reasons = " ".join(refused.reason for refused in found.refused).split()
    in_layers = named = total = 0
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            covered = covered_by(used[name])
            owner = name.rpartition(".")[0].partition(".parametrizations")[0]
            total += parameter.numel()
            in_layers += covered
            named += (parameter.numel() - covered) * bool({name, owner} & names or name in reasons)
    return Account(in_layers, named, total)


def covered_by(slices: Collection[tuple[int, int]]) -> int:
    """Count the elements in at least one of the slices (first element, count)."""
    covered = torch.zeros(max((first + count for first, count in slices), default=0), dtype=torch.bool)
    for first, count in slices:
        covered[first : first + count] = True
    return int(covered.sum())


def torchvision_network(name: str) -> tuple[nn.Module, Tensor]:
    """Return a network in evaluation mode and one input, on the meta device where it runs there."""
    module = models.get_model_builder(name).__module__
    options: dict[str, Any] = {"weights": None}
    options |= {"init_weights": False} if "googlenet" in name or "inception" in name else {}
    options |= {"weights_backbone": None} if "detection" in module or "segmentation" in module else {}
    options |= SMALL if "detection" in module and not name.startswith("ssd") else {}
    if any(f".{part}." in module for part in RUN):
        return models.get_model(name, **options), torch.rand(1, 3, 128, 128)
    size: tuple[int, ...] = (3, 64, 64)
    if ".video." in module:
        size = next((size for part, size in VIDEO_SIZES.items() if name.startswith(part)), (3, 8, 56, 56))
    elif ".optical_flow." in module:
        size = (3, 128, 128)
    elif ".segmentation." not in module:
        size = default_input_shape(f"torchvision:{name.removeprefix('quantized_')}") or (3, 224, 224)
    return on_meta(lambda: models.get_model(name, **options)), torch.zeros(1, *size, device="meta")


def timm_network(name: str) -> tuple[nn.Module, Tensor]:
    """Return a network of timm and one input."""
    import timm

    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    assert config is not None, "networks that are listed have a configuration"
    size = config.input_size
    return on_meta(lambda: timm.create_model(name)), torch.zeros(1, *size, device="meta")


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network without weights, on the CPU first if it computes with tensors while being built."""
    try:
        with torch.device("meta"):
            return build()
    except (NotImplementedError, RuntimeError):
        return build().to("meta")


def row(name: str, make: Callable[[str], tuple[nn.Module, Tensor]]) -> tuple[str, int | None]:
    """Return a network's row, and what is unaccounted for; None where it does not run."""
    torch.manual_seed(SEED)
    try:
        model, example = make(name)
        found, parameters, macs = survey(model, example)
    except UserError as error:
        return f"| {name} | - | | | | | | | | | | {str(error)[:160]} |", None
    reasons = Counter(re.sub(r"(with|reads) \S+ ", r"\1 weights ", each.reason) for each in found.refused)
    refused = "; ".join(f"{count}x {reason}" for reason, count in reasons.items()) or "-"
    size = "x".join(map(str, example.shape[1:]))
    return f"| {name} | {size} | {len(found.layers)} | {parameters} | {macs} | {refused} |", max(
        abs(parameters.neither), abs(macs.neither)
    )


def main() -> int:
    """Print a row for every network and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NETWORK", help="default: all")
    chosen = set(parser.parse_args().names)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    sources: Mapping[str, tuple[list[str], Callable[[str], tuple[nn.Module, Tensor]]]] = {
        "torchvision": (models.list_models(), torchvision_network),
        "timm": (list(TIMM), timm_network),
    }
    missing = 0
    print("# Layers found in the networks of torchvision and timm\n")
    print("Weights are parameters of two or more dimensions. Named is what `haq layers` lists as left in float.\n")
    for source, (names, make) in sources.items():
        print(f"## {source}\n")
        print(
            "| network | input | layers | weights | in layers | named | neither "
            "| MACs | in layers | named | neither | named for |"
        )
        print("|" + "---|" * 12)
        results = []
        for name in names:
            if not chosen or name in chosen:
                text, neither = row(name, make)
                print(text, flush=True)
                results.append(neither)
        ran = [neither for neither in results if neither is not None]
        missing += sum(neither > 0 for neither in ran)
        wrong = sum(each > 0 for each in ran)
        print(f"\n{len(results)} networks, {len(ran)} run on one input, {wrong} with something unaccounted for.\n")
    packages = describe_environment(seed=SEED, device="cpu")["packages"]
    versions = ", ".join(f"{name} {packages[name]}" for name in ("haq", "torch", "torchvision", "timm"))
    print(f"Made with `python scripts/experiments/survey_torchvision.py`, seed {SEED}; {versions}.")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())

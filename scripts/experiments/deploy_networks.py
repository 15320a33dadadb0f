"""Export networks with uniform and mixed bits in all formats, and verify the files in all runtimes.

    PYTHONPATH=scripts/experiments python scripts/experiments/deploy_networks.py resnet20 --data DIR --weights DIR \\
        --out results/deployment

The data folder holds `cifar10` and `imagenet` as image folders, the weights folder the published weights; the
MobileNets read theirs from HAQ_DATA. Every policy has a JSON file in `--out`, and a policy whose file is there is not
run again. `deploy_networks.py --table --out DIR` prints the tables of all files.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from haq.config import SearchConfig, search_config
from haq.errors import UserError
from haq.experiment.artifact import load_artifact
from haq.exporters.deployable import Deployable, make_deployable
from haq.exporters.formats import ExportOptions, FormatName
from haq.exporters.registry import EXPORTERS, make_exporter
from haq.exporters.verify import verify_network
from haq.files import write_atomically
from haq.policy import LayerBits, Policy
from haq.runs.environment import describe_environment

SEED = 0
WIDTHS = (8, 7, 6, 5, 4, 3, 2)
_IMAGENET = {
    "data": "imagefolder:{}/imagenet",
    "calibration_images": 128,
    "search_images": 100,
    "report_images": 200,
    "eval_batch": 50,
}
_CIFAR = {"data": "cifar10:{}/cifar10", "search_from": "train"}


@dataclass(frozen=True, slots=True)
class Case:
    """A network: its settings, and how many report images the verification takes."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    images: int | None = None


CASES = {
    "digits": Case(),
    "resnet8": Case({"model": "mlperf_resnet8", **_CIFAR}, "mlperf_tiny_resnet8_cifar10_fp32.pth", 1000),
    "resnet20": Case({"model": "cifar_resnet20", **_CIFAR}, "cifar10jpeg_resnet20_ft3ep.pth", 1000),
    "silu": Case({"model": "depthwise_silu:depthwise_silu", **_CIFAR}, "depthwise_silu.safetensors", 500),
    "mobilenet_v2": Case(
        {"model": "tf_mobilenets:mobilenet_v2", **_IMAGENET, "normalize": "half", "resize": 227, "crop": 224}, None, 100
    ),
    "efficientnet_b0": Case({"model": "torchvision:efficientnet_b0", **_IMAGENET}, None, 50),
}
"""EfficientNet-B0 has random weights unless torchvision's are in its cache: agreement counts, not accuracy."""


def policies(layers: Sequence[LayerBits], model: str) -> Iterator[tuple[str, Policy]]:
    """Yield uniform policies, with 8 bits in the first and the last layer, and a random mixed one."""
    generator = np.random.default_rng(SEED)
    mixed = generator.integers(2, 9, size=(len(layers), 2)).tolist()
    for name, bits in [*((f"w{b}a{b}", [(b, b)] * len(layers)) for b in WIDTHS), ("mixed", mixed)]:
        ends = {0, len(layers) - 1}
        chosen = [(8, 8) if n in ends else tuple(pair) for n, pair in enumerate(bits)]
        widths = [
            layer.model_copy(update={"w_bits": w, "a_bits": a}) for layer, (w, a) in zip(layers, chosen, strict=True)
        ]
        yield name, Policy(model=model, hardware=None, objective=None, layers=tuple(widths))


def sizes(network: Deployable) -> dict[str, int | str]:
    """Return the bytes of the files of every format, or the reason why there is none."""
    variants: list[tuple[str, FormatName, ExportOptions]] = [(name, name, ExportOptions()) for name in EXPORTERS]
    variants.append(("onnx compact", "onnx", ExportOptions(compact=True)))
    found: dict[str, int | str] = {}
    for label, name, options in variants:
        try:
            found[label] = sum(map(len, make_exporter(name).build(network, options).files.values()))
        except UserError as error:
            found[label] = str(error)
    return found


def deploy(name: str, data: Path, weights: Path, out: Path) -> None:
    """Export and verify all policies of a network."""
    case = CASES[name]
    settings = {key: value.format(data) if isinstance(value, str) else value for key, value in case.settings.items()}
    if case.weights is not None:
        settings["weights"] = str(weights / case.weights)
    config = search_config(**settings)
    first: Deployable | None = None
    for label, policy in policies(_layers(config), config.model):
        path = out / f"{name}-{label}.json"
        if path.exists():
            continue
        artifact = load_artifact(policy, config)
        first = make_deployable(artifact) if first is None else first
        network = replace(first, artifact=artifact)
        record = verify_network(network, images=case.images)
        model = network.network.priced
        document = {
            "network": name,
            "policy": label,
            "command": shlex.join(["python", *sys.argv]),
            "seed": SEED,
            "environment": describe_environment(seed=SEED, device="cpu"),
            "weights": sum(layer.weight_count for layer in model.layers),
            "float_bytes": 4 * sum(tensor.numel() for tensor in model.model.parameters()),
            "weight_bytes": model.table.policy_cost(policy.w_bits, policy.a_bits).weight_bytes,
            "bytes": sizes(network),
            "verification": record.model_dump(mode="json"),
        }
        write_atomically(path, (json.dumps(document, indent=1) + "\n").encode())
        print(_summary(document), flush=True)


def _layers(config: SearchConfig) -> list[LayerBits]:
    from haq.experiment.loading import load_traced

    return [LayerBits(name=layer.name, kind=layer.kind, w_bits=8, a_bits=8) for layer in load_traced(config).layers]


def _summary(document: Mapping[str, Any]) -> str:
    """Return one line on a policy: differing codes, predictions and scores by runtime."""
    parts = [f"{document['network']} {document['policy']}"]
    for runtime in document["verification"]["runtimes"]:
        if runtime["missing"]:
            parts.append(f"{runtime['name']}: {runtime['missing'][:60]}")
            continue
        integer = [layer for layer in runtime["layers"] if layer["is_integer"]]
        differing, compared = (sum(layer[key] for layer in integer) for key in ("differing", "compared"))
        same = runtime["outputs"]["same_predictions"]
        parts.append(
            f"{runtime['name']}: {differing} of {compared} codes, same {same}, "
            f"score {runtime['score']:.4f} of {runtime['expected_score']:.4f}"
        )
    return " | ".join(parts)


def main() -> None:
    """Deploy networks, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", nargs="*", choices=[*CASES, []])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="print the tables of the files in --out")
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    if arguments.table:
        for path in sorted(arguments.out.glob("*.json")):
            print(_summary(json.loads(path.read_text())))
    for name in arguments.network:
        deploy(name, arguments.data, arguments.weights, arguments.out)


if __name__ == "__main__":
    main()

"""Export networks with uniform and mixed bits in all formats, and verify the files in all runtimes.

    PYTHONPATH=scripts/experiments python scripts/experiments/deploy_networks.py resnet20 --data DIR --weights DIR \\
        --out results/deployment

The data folder holds `cifar10` and `imagenet` as image folders, the weights folder the published weights; the
MobileNets read theirs from HAQ_DATA. Every policy has a JSON file in `--out`, and a policy whose file is there is not
run again. `deploy_networks.py --table --out DIR` prints the tables of all files.
"""

import argparse
import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
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
FLASH = re.compile(r"([\d,]+) B of flash")
"""Flash in the notes of a C export."""
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
    "resnet8": Case({"model": "resnet8", **_CIFAR}, "mlperf_tiny_resnet8_cifar10_fp32.pth", 1000),
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
    """Return the bytes of the files of every format, or the reason why there is none; for C the flash."""
    variants: list[tuple[str, FormatName, ExportOptions]] = [(name, name, ExportOptions()) for name in EXPORTERS]
    variants.append(("onnx compact", "onnx", ExportOptions(compact=True)))
    found: dict[str, int | str] = {}
    for label, name, options in variants:
        try:
            export = make_exporter(name).build(network, options)
        except UserError as error:
            found[label] = str(error)
            continue
        flash = [match for note in export.notes if (match := FLASH.search(note))]
        found[label] = int(flash[0][1].replace(",", "")) if flash else sum(map(len, export.files.values()))
    return found


def deploy(name: str, data: Path, weights: Path, out: Path, *, only: Sequence[str]) -> None:
    """Export and verify the policies of a network; `only` names some of them."""
    case = CASES[name]
    settings = {key: value.format(data) if isinstance(value, str) else value for key, value in case.settings.items()}
    if case.weights is not None:
        settings["weights"] = str(weights / case.weights)
    config = search_config(**settings)
    first: Deployable | None = None
    for label, policy in policies(_layers(config), config.model):
        path = out / f"{name}-{label}.json"
        if path.exists() or (only and label not in only):
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
        same = runtime["outputs"]["same_predictions"]
        parts.append(
            f"{runtime['name']}: {_codes(runtime)}, same {same}, score {runtime['score']:.4f} of "
            f"{runtime['expected_score']:.4f}"
        )
    return " | ".join(parts)


def _codes(*runtimes: Mapping[str, Any]) -> str:
    """Return the differing codes of layers that are computed in integers, and in brackets those of other layers."""
    texts = []
    for is_integer, form in ((True, "{} of {}"), (False, "({} of {})")):
        layers = [layer for each in runtimes for layer in each["layers"] if layer["is_integer"] == is_integer]
        differing, compared = (sum(layer[key] for layer in layers) for key in ("differing", "compared"))
        if compared:
            texts.append(form.format(f"{differing:,}", f"{compared:,}"))
    return " ".join(texts) or "-"


def tables(documents: Sequence[Mapping[str, Any]]) -> str:
    """Return the tables of codes, predictions and sizes in Markdown."""
    names = list(dict.fromkeys(document["network"] for document in documents))
    columns = (
        "network, runtime",
        "policies",
        "differing codes",
        "images",
        "same predictions, mean and least",
        "output error",
    )
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name in names:
        lines += _runtime_rows(name, [document for document in documents if document["network"] == name])
    kinds = list(dict.fromkeys(kind for document in documents for kind in document["bytes"]))
    lines += ["", f"| network, policy | weight bytes | float | {' | '.join(kinds)} |", "|---" * (len(kinds) + 3) + "|"]
    for document in documents:
        cells = (document["bytes"].get(kind, "-") for kind in kinds)
        texts = (f"{cell:,}" if isinstance(cell, int) else "refused" for cell in cells)
        bytes_ = (f"{document[key]:,.0f}" for key in ("weight_bytes", "float_bytes"))
        lines.append(f"| {document['network']} {document['policy']} | {' | '.join((*bytes_, *texts))} |")
    return "\n".join(lines)


def _runtime_rows(name: str, documents: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    by_runtime: dict[str, list[Mapping[str, Any]]] = {}
    for document in documents:
        for runtime in document["verification"]["runtimes"]:
            by_runtime.setdefault(runtime["name"], []).append(runtime)
    for runtime, found in by_runtime.items():
        ran = [each for each in found if each["missing"] is None]
        if not ran:
            yield f"| {name}, {runtime} | 0 | {found[0]['missing']} | | | |"
            continue
        same = [each["outputs"]["same_predictions"] for each in ran]
        images = max(each["outputs"]["images"] for each in ran)
        noise = max(each["outputs"]["noise"] for each in ran)
        agreement = f"{100 * mean(same):.2f} %, {100 * min(same):.2f} %"
        yield f"| {name}, {runtime} | {len(ran)} | {_codes(*ran)} | {images} | {agreement} | {noise:.2g} |"


def main() -> None:
    """Deploy networks, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", nargs="*", choices=[*CASES, []])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--policies", nargs="+", default=(), help="names of policies, such as w4a4 or mixed; default: all"
    )
    parser.add_argument("--table", action="store_true", help="print the tables of the files in --out")
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    if arguments.table:
        order = {label: number for number, label in enumerate((*(f"w{b}a{b}" for b in WIDTHS), "mixed"))}
        found = [json.loads(path.read_text()) for path in arguments.out.glob("*.json")]
        print(tables(sorted(found, key=lambda each: (list(CASES).index(each["network"]), order[each["policy"]]))))
    for name in arguments.network:
        deploy(name, arguments.data, arguments.weights, arguments.out, only=arguments.policies)


if __name__ == "__main__":
    main()

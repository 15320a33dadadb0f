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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deployment_tables import tables

from haq.config import SearchConfig, search_config
from haq.errors import UserError
from haq.experiment.artifact import load_artifact
from haq.experiment.loading import load_traced
from haq.exporters.deployable import Deployable, make_deployable
from haq.exporters.formats import ExportOptions, FormatName
from haq.exporters.records import CodesRecord, RuntimeRecord
from haq.exporters.registry import EXPORTERS, RUNTIMES, make_exporter
from haq.exporters.verify import verify_network
from haq.files import write_atomically
from haq.layer_bits import LayerBits
from haq.policy import Policy
from haq.runs.environment import describe_environment

SEED = 0
FLASH = re.compile(r"([\d,]+) B of flash")
"""Flash in the notes of a C export."""
TOO_LARGE = "c: the program does not fit the flash of the emulated device"
WIDTHS = (8, 7, 6, 5, 4, 3, 2)
SLOW = ("qonnx", "tflm", "litert")
"""Runtimes that execute operators one by one, or by reference kernels."""
EMULATOR = "mcu"
NARROW = "w3a8"
"""Policy with 3-bit weights in all layers, the first and the last too."""
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
    """A network: its settings, and how many report images runtimes take, those in `SLOW`, and the emulator.

    The emulator is not run where it takes none, as programs do not fit its flash.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    images: int | None = None
    slow: int | None = None
    emulated: int = 8


CASES = {
    "digits": Case(),
    "resnet8": Case({"model": "resnet8", **_CIFAR}, "mlperf_tiny_resnet8_cifar10_fp32.pth", 1000, 256),
    "resnet20": Case({"model": "cifar_resnet20", **_CIFAR}, "cifar10jpeg_resnet20_ft3ep.pth", 1000, 128, 4),
    "silu": Case({"model": "depthwise_silu:depthwise_silu", **_CIFAR}, "depthwise_silu.safetensors", 500, 128, 4),
    "mobilenet_v2": Case(
        {"model": "tf_mobilenets:mobilenet_v2", **_IMAGENET, "normalize": "half", "resize": 227, "crop": 224},
        None,
        100,
        16,
        1,
    ),
    "efficientnet_b0": Case({"model": "torchvision:efficientnet_b0", **_IMAGENET}, None, 16, 8, 0),
}
"""EfficientNet-B0 has random weights unless torchvision's are in its cache: agreement counts, not accuracy."""


def case_config(case: Case, data: Path, weights: Path) -> SearchConfig:
    """Return the settings of a network, with the folders of data and weights."""
    settings = {key: value.format(data) if isinstance(value, str) else value for key, value in case.settings.items()}
    if case.weights is not None:
        settings["weights"] = str(weights / case.weights)
    return search_config(**settings)


def policy_layers(config: SearchConfig) -> list[LayerBits]:
    """Return the layers of a network with 8 bits."""
    return [LayerBits(name=layer.name, kind=layer.kind, w_bits=8, a_bits=8) for layer in load_traced(config).layers]


def policies(layers: Sequence[LayerBits], model: str) -> Iterator[tuple[str, Policy]]:
    """Yield uniform policies, with 8 bits in the first and the last layer, a random mixed one, and `NARROW`."""
    generator = np.random.default_rng(SEED)
    mixed = generator.integers(2, 9, size=(len(layers), 2)).tolist()
    even = [(f"w{b}a{b}", [(b, b)] * len(layers)) for b in WIDTHS]
    for name, bits in [*even, ("mixed", mixed), (NARROW, [(3, 8)] * len(layers))]:
        ends = set() if name == NARROW else {0, len(layers) - 1}
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
        if flash:
            found[label] = int(flash[0][1].replace(",", ""))
        else:
            found[label] = TOO_LARGE if name == "c" else sum(map(len, export.files.values()))
    return found


def deploy(
    name: str, data: Path, weights: Path, out: Path, *, only: Sequence[str] = (), images: int | None = None
) -> None:
    """Export the policies of a network, verify them on at most `images` images; `only` names some of them."""
    case = CASES[name]
    config = case_config(case, data, weights)
    first: Deployable | None = None
    for label, policy in policies(policy_layers(config), config.model):
        path = out / f"{name}-{label}.json"
        if path.exists() or (only and label not in only):
            continue
        artifact = load_artifact(policy, config)
        first = make_deployable(artifact) if first is None else first
        network = replace(first, artifact=artifact)
        records = () if images == 0 else _verified(network, case, images)
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
            "runtimes": list(map(_runtime, records)),
        }
        write_atomically(path, (json.dumps(document) + "\n").encode())
        print(path.stem, flush=True)


def _verified(network: Deployable, case: Case, most: int | None) -> Iterator[RuntimeRecord]:
    fast = [name for name in RUNTIMES if name not in SLOW and name != EMULATOR]
    for names, images in ((fast, case.images), (SLOW, case.slow), ([EMULATOR], case.emulated)):
        if images == 0:
            continue
        limits = [limit for limit in (images, most) if limit is not None]
        yield from verify_network(network, names, images=min(limits, default=None)).runtimes


def read_documents(folder: Path) -> list[dict[str, Any]]:
    """Read the files of a folder, in the order of networks and policies."""
    networks, labels = list(CASES), [*(f"w{bits}a{bits}" for bits in WIDTHS), "mixed", NARROW]
    found = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    return sorted(found, key=lambda each: (networks.index(each["network"]), labels.index(each["policy"])))


def _runtime(record: RuntimeRecord) -> dict[str, Any]:
    """Return what a runtime found: totals, and the layers that differ."""
    if record.outputs is None:
        return {"name": record.name, "missing": record.missing}
    return {
        "name": record.name,
        "images": record.outputs.images,
        "same_predictions": record.outputs.same_predictions,
        "noise": record.outputs.noise,
        "score": record.score,
        "expected_score": record.expected_score,
        "integer": _codes(layer for layer in record.layers if layer.is_integer),
        "float": _codes(layer for layer in record.layers if not layer.is_integer),
    }


def _codes(layers: Iterable[CodesRecord]) -> dict[str, Any]:
    found = list(layers)
    return {
        "layers": len(found),
        "compared": sum(layer.compared for layer in found),
        "differing": {layer.layer: layer.differing for layer in found if layer.differing},
    }


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
    parser.add_argument("--images", type=int, help="largest number of images for each runtime")
    parser.add_argument("--sizes-only", action="store_true", help="export without verification")
    parser.add_argument("--table", action="store_true", help="print the tables of the files in --out")
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    if arguments.table:
        print(tables(read_documents(arguments.out)))
    for name in arguments.network:
        deploy(
            name,
            arguments.data,
            arguments.weights,
            arguments.out,
            only=arguments.policies,
            images=0 if arguments.sizes_only else arguments.images,
        )


if __name__ == "__main__":
    main()

"""Measure what restoring the scale of outputs gains over restoring their mean, on policies of searches.

    python scripts/experiments/compare_output_scales.py RUN... > results/output_scales.md

A run is a folder with `config.json` and `policy.json`. Each policy is evaluated without corrections, with biases alone,
and with scales and biases of outputs that no batch norm reads, from several numbers of calibration images. Prints
Markdown.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import torch

from haq.config import SearchConfig, search_config
from haq.evaluation.engines.onnxruntime import OnnxEngine
from haq.evaluation.evaluator import Evaluator
from haq.evaluation.protocols import Evaluation
from haq.execution.structures import take
from haq.experiment.preparation import prepare_network
from haq.experiment.problem import Network
from haq.formatting import percent
from haq.policy import PolicyBits, load_policy
from haq.quantization.corrections import Corrections, Corrector
from haq.quantization.quantized_model import QuantizedModel
from haq.runs.environment import describe_environment
from haq.tasks.base import SplitName

SPLITS: tuple[SplitName, ...] = ("search", "report")
SCALED_IMAGES = (16, 32, 64, 128)
_SAME_DEVICE = {"hardware": "bismo-edge", "objective": "latency", "budget": ("8bits",)}
"""Settings that do not matter for an evaluation; with the same ones, runs of a network share its preparation."""


def corrections(network: Network, bits: PolicyBits, images: int, *, is_scaled: bool) -> Corrections:
    """Compute the corrections of a policy in torch from the first calibration images."""
    priced = network.priced
    model = QuantizedModel(priced.model, priced.trace, network.quantizers)
    model.set_bits(*bits)
    shown = take(_calibration_images(network), slice(images))
    is_scalable = model.is_scalable if is_scaled else lambda _: False
    return Corrector(model.model, model.index, shown, quantized=model.quantized, is_scalable=is_scalable).find()


@lru_cache(maxsize=1)
def _calibration_images(network: Network) -> torch.Tensor:
    images = next(iter(network.task.batches("calibration", batch_size=max(SCALED_IMAGES))))[0]
    assert isinstance(images, torch.Tensor)
    return images


def evaluations(config: SearchConfig, bits: PolicyBits) -> Iterator[tuple[str, list[Evaluation]]]:
    """Yield the evaluations of a policy on all splits by kind of correction."""
    network = _prepared(config.model_copy(update=_SAME_DEVICE).model_dump_json())
    engine = network.engine
    assert isinstance(engine, OnnxEngine)
    kinds = {"none": Corrections(), "biases, 64 images": corrections(network, bits, 64, is_scaled=False)}
    kinds |= {
        f"scales and biases, {images} images": corrections(network, bits, images, is_scaled=True)
        for images in SCALED_IMAGES
    }
    for name, found in kinds.items():
        engine.store(bits, found)
        yield (
            name,
            [Evaluator(engine, network.task, split, batch_size=config.eval_batch).evaluate(*bits) for split in SPLITS],
        )


@lru_cache(maxsize=1)
def _prepared(settings: str) -> Network:
    return prepare_network(SearchConfig.model_validate_json(settings))


def main() -> None:
    """Evaluate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("# Corrections of the scale of outputs\n")
    print("| policy | corrections | error, search | error, report | divergence, report | accuracy, report |")
    print("|---|---|---|---|---|---|")
    for run in options.runs:
        policy = load_policy(run / "policy.json")
        settings = json.loads((run / "config.json").read_text())
        config = search_config(**{name: settings[name] for name in SearchConfig.model_fields if name in settings})
        for kind, (search, report) in evaluations(config, (policy.w_bits, policy.a_bits)):
            print(
                f"| {run.name} | {kind} | {search.noise:.4f} | {report.noise:.4f} | {report.divergence:.4f} | "
                f"{percent(report.accuracy, digits=2)} |",
                flush=True,
            )
    versions = describe_environment(seed=0, device="cpu")["packages"]
    print(f"\nMade with `python {shlex.join(sys.argv)}`; one thread; ", end="")
    print(", ".join(f"{name} {version}" for name, version in versions.items() if version) + ".")


if __name__ == "__main__":
    main()

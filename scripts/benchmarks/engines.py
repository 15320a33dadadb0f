"""Measure how long an evaluation takes on each engine, relative to the eager float network.

    python scripts/benchmarks/engines.py --threads 1 2 > results/engines.md

Uses random images and random weights, with batch norms fitted to the images. An evaluation is everything that a search
does for a new policy: corrections from 64 images, graph, session, and the search split. Engines alternate, and the
fastest round counts. Eager float and torch run a part of the split, and their time is scaled to all of it. Prints
Markdown.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from haq.evaluation.chunks import in_chunks
from haq.evaluation.engines.onnxruntime import OnnxEngine
from haq.evaluation.engines.onnxruntime.float_outputs import EvaluatedLowering
from haq.evaluation.engines.torch import TorchEngine
from haq.experiment.preparation import CORRECTION_IMAGES
from haq.network.layers import trace
from haq.network.zoo import default_input_shape, load_model
from haq.policy import PolicyBits
from haq.quantization.quantized_model import QuantizedModel
from haq.quantization.quantizers import Quantizers
from haq.runs.environment import describe_environment


@dataclass(frozen=True, slots=True)
class Size:
    """Numbers of images: the search split, a batch of it, and the part that eager float and torch run."""

    split: int
    batch: int
    part: int


CASES = {"cifar_resnet20": Size(1000, 256, 256), "torchvision:mobilenet_v2": Size(256, 32, 32)}
ROWS = (
    "eager float",
    "eager float, a few images at a time",
    "torch engine, split",
    "torch engine, corrections",
    "torch engine, evaluation",
    "onnxruntime float, split",
    "onnxruntime, corrections",
    "onnxruntime, graph",
    "onnxruntime, session",
    "onnxruntime, split",
    "onnxruntime, evaluation",
)


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A network, its images, and policies of 2 to 8 bits."""

    name: str
    size: Size
    model: nn.Module
    quantized: QuantizedModel
    images: Tensor
    policies: Sequence[PolicyBits]
    torch: TorchEngine
    onnxruntime: OnnxEngine

    def batches(self, count: int) -> list[Tensor]:
        """Return the first images, batch by batch."""
        return list(self.images[:count].split(self.size.batch))  # type: ignore[no-untyped-call]


Seconds = NDArray[np.float64]
"""Wall time, and the time of all processors [2]."""


def build(name: str, policies: int) -> Case:
    """Load, fit batch norms and calibrate; the quantizers of all policies are computed before timing."""
    model, generator, size = load_model(name), torch.Generator().manual_seed(0), CASES[name]
    images = torch.randn(size.split, *(default_input_shape(name) or ()), generator=generator)
    shown = images[:CORRECTION_IMAGES]
    fit_norms(model, shown[:32])
    traced = trace(model, images[:1])
    quantized = QuantizedModel(model, traced, Quantizers(model, traced, lambda: [shown[:32]]))
    reference = TorchEngine(quantized, shown)
    engine = OnnxEngine(quantized, traced, images[:1], reference=reference)
    bits = np.random.default_rng(0).integers(2, 9, (policies, 2, len(traced.layers)))
    drawn = [(tuple(w.tolist()), tuple(a.tolist())) for w, a in bits]
    for w_bits, a_bits in drawn:
        quantized.quantizers.tensors(w_bits, a_bits)
    return Case(name, size, model, quantized, images, drawn, reference, engine)


@torch.no_grad()
def fit_norms(model: nn.Module, images: Tensor) -> None:
    """Set the running statistics of batch norms from images, so that random weights keep signals in range."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain average of what is seen
            module.reset_running_stats()
    model.train()
    model(images)
    model.eval()


def clock() -> Seconds:
    """Return the current wall and processor time."""
    return np.array([time.perf_counter(), time.process_time()])


def run_all(network: Callable[[Tensor], object], batches: Sequence[Tensor]) -> Seconds:
    """Return the time of all batches."""
    start = clock()
    for batch in batches:
        network(batch)
    return clock() - start


@torch.no_grad()
def once(case: Case, bits: PolicyBits) -> dict[str, Seconds]:
    """Measure every row for one policy."""
    part, whole = case.batches(case.size.part), case.batches(case.size.split)
    scale = case.size.split / case.size.part
    found = {
        "eager float": scale * run_all(case.model, part),
        "eager float, a few images at a time": scale * run_all(lambda batch: in_chunks(case.model, batch), part),
        "onnxruntime float, split": run_all(case.onnxruntime.runner(None), whole),
    }
    for engine in (case.torch, case.onnxruntime):
        case.torch.stored.clear()  # for both: each finds its own
        start = clock()
        corrections = engine.corrections(bits)
        found[f"{engine.name}, corrections"] = clock() - start
        engine.store(bits, corrections)
    found["torch engine, corrections"] = found.pop("torch, corrections")
    found["torch engine, split"] = scale * run_all(case.torch.runner(bits), part)
    start = clock()
    lowering = EvaluatedLowering(case.onnxruntime.template, case.quantized.quantizers, bits, corrections=corrections)
    lowering.model().SerializeToString()
    found["onnxruntime, graph"] = clock() - start
    start = clock()
    network = case.onnxruntime.runner(bits)
    found["onnxruntime, session"] = np.maximum(clock() - start - found["onnxruntime, graph"], 0)
    found["onnxruntime, split"] = run_all(network, whole)
    return found


def measure(case: Case, policies: Sequence[PolicyBits], threads: int) -> dict[str, Seconds]:
    """Return the least time of every row over the policies, and the sums that make up an evaluation."""
    torch.set_num_threads(threads)
    case.onnxruntime.threads = threads
    assert case.torch.corrector is not None
    case.torch.corrector.floats  # noqa: B018  found once, before the clock starts
    runs = [once(case, bits) for bits in policies]
    least = {name: np.min([run[name] for run in runs], axis=0) for name in runs[0]}
    for engine in ("torch engine", "onnxruntime"):
        parts = [each for name, each in least.items() if name.startswith(f"{engine}, ")]
        least[f"{engine}, evaluation"] = np.sum(parts, axis=0)
    return {name: least[name] for name in ROWS}


def report(case: Case, policies: Sequence[PolicyBits], threads: int) -> None:
    """Print one table."""
    found = measure(case, policies, threads)
    eager = found["eager float"]
    print(f"\n## {case.name}, {case.size.split} images, {threads} thread{'s' if threads > 1 else ''}\n")
    print("| | wall, s | / eager float | processors, s | / eager float |\n|---|---|---|---|---|")
    for name, (wall, processors) in found.items():
        ratios = wall / eager[0], processors / eager[1]
        print(f"| {name} | {wall:.2f} | {ratios[0]:.3f} | {processors:.2f} | {ratios[1]:.3f} |", flush=True)


def main() -> None:
    """Print a table for each model and number of threads, and the versions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(CASES), metavar="NAME", choices=list(CASES))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="N", help="default: 1 2")
    parser.add_argument("--rounds", type=int, default=3, help="policies to time (default: 3)")
    arguments = parser.parse_args()
    print("# Time of an evaluation on each engine\n")
    print(
        "Mixed policies of 2 to 8 bits, each new to the engine; random weights and images. An evaluation is the sum of"
    )
    print(f"corrections ({CORRECTION_IMAGES} images), graph, session and search split. The least of the rounds; where")
    print(
        "other programs compete for the processors, their time tells more than that of the clock. How far the engines"
    )
    print("agree is in `engine_agreement.md`.")
    for name in arguments.models:
        case = build(name, arguments.rounds * len(arguments.threads))
        for place, threads in enumerate(arguments.threads):
            # Corrections are kept once they are found: every number of threads has policies of its own.
            report(case, case.policies[place :: len(arguments.threads)], threads)
    packages = describe_environment(seed=0, device="cpu")["packages"]
    versions = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    machine = f"{os.cpu_count()} cores, load averages at the end {load}"
    print(f"\nMade with `python {' '.join(sys.argv)}`; {machine}; {versions}.")


if __name__ == "__main__":
    main()

"""How long an evaluation takes on each engine, relative to the eager float network, and whether the engines agree.

    python scripts/benchmark_engines.py --threads 1 2

On random images and random weights, with batch norms that fit the images. A policy's time includes making its graph and
opening a session; every policy is a new one. Engines take turns, and the fastest of the rounds counts.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from haq.engines import agreement
from haq.evaluation import Engine, PolicyBits
from haq.integer_graph import OnnxEngine
from haq.layers import trace
from haq.quantized_model import QuantizedModel, Quantizers
from haq.torch_engine import TorchEngine
from haq.zoo import load_model, usual_input

CASES = {"cifar_resnet20": 256, "torchvision:mobilenet_v2": 32}
"""Models and the images in a batch."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A network, its images, and policies of 2 to 8 bits."""

    name: str
    model: nn.Module
    images: Tensor
    policies: Sequence[PolicyBits]
    engines: tuple[Engine, Engine]
    """torch, onnxruntime"""


def build(name: str, batch: int, policies: int) -> Case:
    """Load, normalize and calibrate; every policy's quantizers are made before anything is timed."""
    model, generator = load_model(name), torch.Generator().manual_seed(0)
    images = torch.randn(batch, *(usual_input(name) or ()), generator=generator)
    fit_norms(model, images[:32])
    traced = trace(model, images[:1])
    quantized = QuantizedModel(model, traced, Quantizers(model, traced, lambda: [images[:32]]))
    reference = TorchEngine(quantized)
    engine = OnnxEngine(quantized, traced, images[:1], reference=reference)
    bits = np.random.default_rng(0).integers(2, 9, (policies, 2, len(traced.layers)))
    drawn = [(tuple(w.tolist()), tuple(a.tolist())) for w, a in bits]
    for w_bits, a_bits in drawn:
        quantized.quantizers.tensors(w_bits, a_bits)
    return Case(name, model, images, drawn, (reference, engine))


@torch.no_grad()
def fit_norms(model: nn.Module, images: Tensor) -> None:
    """Running statistics of these images, so that random weights keep signals in range."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain average of what is seen
            module.reset_running_stats()
    model.train()
    model(images)
    model.eval()


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@torch.no_grad()
def measure(case: Case, threads: int) -> dict[str, float]:
    """Least seconds of one batch: eager float, and each engine with a policy that is new to it."""
    torch.set_num_threads(threads)
    reference, engine = case.engines
    assert isinstance(engine, OnnxEngine)
    engine.threads = threads
    runs: dict[str, list[float]] = {"eager": [], "torch": [], "onnxruntime": [], "of that, graph and session": []}
    case.model(case.images), engine.outputs(case.policies[0])(case.images)
    for bits in case.policies:
        runs["eager"].append(seconds(lambda: case.model(case.images)))
        runs["torch"].append(seconds(lambda bits=bits: reference.outputs(bits)(case.images)))
        start = time.perf_counter()
        network = engine.outputs(bits)
        runs["of that, graph and session"].append(time.perf_counter() - start)
        network(case.images)
        runs["onnxruntime"].append(time.perf_counter() - start)
    return {name: min(times) for name, times in runs.items()}


def main() -> None:
    """Print one row for each model and number of threads, then the agreement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(CASES), metavar="NAME", choices=list(CASES))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="N", help="default: 1 2")
    parser.add_argument("--rounds", type=int, default=8, help="policies to time (default: 8)")
    arguments = parser.parse_args()
    print("| model | batch | threads | eager, s | torch / eager | onnxruntime / eager | of that, graph and session |")
    print("|---|---|---|---|---|---|---|")
    cases = [build(name, CASES[name], arguments.rounds) for name in arguments.models]
    for case in cases:
        for threads in arguments.threads:
            eager, *others = measure(case, threads).values()
            ratios = " | ".join(f"{each / eager:.2f}" for each in others)
            print(f"| {case.name} | {len(case.images)} | {threads} | {eager:.3f} | {ratios} |", flush=True)
    for case in cases:
        reference, engine = case.engines
        found = agreement(engine, reference, inputs=case.images[:32], policies=case.policies)
        print(f"\n{case.name}, mixed policies: {found}")


if __name__ == "__main__":
    main()

"""Measure forward and backward of the adaptive quantizer against torch's fixed fake quantization.

All work on the same tensor in turns; the ratio is of the medians of one run. torch's operator has no learned
parameters, only a gradient to its input. Prints Markdown.

    OMP_NUM_THREADS=1 python scripts/benchmarks/fake_quantize.py > results/fake_quantize.md
"""

import argparse
import shlex
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor
from torch.nn.functional import silu

from haq.quantization.adaptive import AdaptiveQuantizer
from haq.quantization.affine import Shift
from haq.runs.environment import describe_environment

KINDS: tuple[Shift, ...] = ("none", "integer", "float")


def seconds(run: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor) -> float:
    """Return the seconds of one forward and backward."""
    x.grad = None
    _wait(x)
    start = time.perf_counter()
    torch.autograd.backward(run(x), grad)
    _wait(x)
    return time.perf_counter() - start


def _wait(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs="+", default=[64, 64, 56, 56], help="of the activations")
    parser.add_argument("--rounds", type=int, default=15, help="repetitions (default: 15)")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    arguments = parser.parse_args()
    x = silu(torch.randn(arguments.shape)).to(arguments.device).requires_grad_()
    grad = torch.randn_like(x)
    runs: dict[str, Callable[[Tensor], Tensor]] = {}
    for kind in KINDS:
        quantizer = AdaptiveQuantizer(4, shift=kind)
        quantizer.calibrate(x)
        scale, zero_point, grid = quantizer.scale.item(), int(quantizer.zero_point), quantizer.grid
        runs[f"{kind}, eager"] = quantizer
        runs[f"{kind}, compiled"] = torch.compile(quantizer)
    fixed = lambda x: torch.fake_quantize_per_tensor_affine(x, scale, zero_point, grid.q_min, grid.q_max)  # noqa: E731
    runs = {"torch, fixed": fixed, "torch, fixed, compiled": torch.compile(fixed), **runs}
    for run in runs.values():
        seconds(run, x, grad)  # compiles
    rounds = [{name: seconds(run, x, grad) for name, run in runs.items()} for _ in range(arguments.rounds)]
    times = {name: median(each[name] for each in rounds) for name in runs}
    print(
        "# Time of learned scales and shifts\n\n"
        f"Forward and backward over {x.numel():,} values on {arguments.device}, {torch.get_num_threads()} thread(s), "
        f"median of {arguments.rounds} rounds in turns. The first two rows are torch's fake quantization, which learns "
        "neither scale nor shift.\n\n"
        "| shift | ms | ratio |\n|---|---|---|"
    )
    for name, took in times.items():
        print(f"| {name} | {1000 * took:.1f} | {took / times['torch, fixed']:.2f} |")
    versions = describe_environment(seed=0, device=arguments.device)["packages"]
    print(f"\nMade with `python {shlex.join(sys.argv)}`; haq {versions['haq']}, torch {versions['torch']}.")


if __name__ == "__main__":
    main()

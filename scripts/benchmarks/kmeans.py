"""Compare k-means codebooks with scikit-learn's KMeans on one large layer: ratios of time and of squared error.

    OMP_NUM_THREADS=1 python scripts/benchmarks/kmeans.py > results/kmeans.md

Both run on the same weights in the same process with the same number of threads; scikit-learn with one k-means++
initialization and at most 50 iterations, the settings of HAQ's published code. Times are CPU-seconds, which other
programs on the machine affect little. Prints Markdown.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from sklearn.cluster import KMeans

from haq.quantization import kmeans_codebook
from haq.runs.environment import describe_environment


def timed(run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, float]:
    """Return the result of `run`, and its CPU-seconds."""
    start = time.process_time()
    result = run()
    return result, time.process_time() - start


def quantized(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """Return the weights quantized by haq's codebook."""
    return kmeans_codebook(weight, bits).dequantize()


def sklearn_values(weight: torch.Tensor, bits: int, rounds: int) -> torch.Tensor:
    """Return the weights quantized by scikit-learn's clustering."""
    flat = weight.double().reshape(-1, 1).numpy()
    found = KMeans(n_clusters=1 << bits, n_init=1, max_iter=rounds, random_state=0).fit(flat)
    values = found.cluster_centers_[found.labels_, 0]
    return torch.from_numpy(values.astype(np.float32)).reshape(weight.shape)


def main() -> None:
    """Print one row for each bit width."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", type=int, nargs="+", default=[4, 8], metavar="N", help="bit widths (default: 4 8)")
    parser.add_argument("--rounds", type=int, default=50, help="scikit-learn's max_iter (default: 50)")
    arguments = parser.parse_args()
    weight = torch.randn(512, 512, 3, 3, generator=torch.Generator().manual_seed(0)) * 0.02
    print("# k-means codebooks against scikit-learn\n")
    print(f"One layer of {weight.numel():,} Gaussian weights; CPU-seconds, {torch.get_num_threads()} thread(s).\n")
    print("| bits | haq, CPU-s | scikit-learn, CPU-s | time ratio | haq, squared error | scikit-learn | error ratio |")
    print("|---|---|---|---|---|---|---|")
    for bits in arguments.bits:
        ours, seconds = timed(partial(quantized, weight, bits))
        theirs, their_seconds = timed(partial(sklearn_values, weight, bits, arguments.rounds))
        error, their_error = ((values - weight).double().square().sum().item() for values in (ours, theirs))
        print(
            f"| {bits} | {seconds:.2f} | {their_seconds:.1f} | {their_seconds / seconds:.0f} | {error:.5g} "
            f"| {their_error:.5g} | {error / their_error:.3f} |",
            flush=True,
        )
    environment = describe_environment(seed=0, device="cpu")
    packages = ", ".join(
        f"{name} {environment['packages'][name]}" for name in ("haq", "torch", "numpy", "scikit-learn")
    )
    flags = f"--bits {' '.join(str(bits) for bits in arguments.bits)} --rounds {arguments.rounds}"
    print(f"\nMade with `python scripts/benchmarks/kmeans.py {flags}` on {environment['processor']}; {packages}.")


if __name__ == "__main__":
    main()

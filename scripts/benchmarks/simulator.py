"""Measure the cost model: a million policies in one call, and the tables of every device for four networks.

Prints Markdown; ratios are of one run on one machine.

    python scripts/benchmarks/simulator.py > results/simulator.md
"""

import argparse
import time

import numpy as np

from hardware_sim import device_names, load_accelerator
from hardware_sim.cost import CostTable, IntArray
from hardware_sim.networks import NETWORKS, mobilenet_v2

SAMPLE = 2000


def main() -> None:
    """Run both benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policies", type=int, nargs="?", default=1_000_000, help="policies to price (default: 1000000)")
    price_policies(parser.parse_args().policies)
    build_tables()


def price_policies(count: int) -> None:
    """Price random policies of MobileNet-V2 on bismo-edge in one call, and layer by layer in Python."""
    table = load_accelerator("bismo-edge").table(mobilenet_v2())
    bits = np.random.default_rng(0).integers(1, 8, size=(2, count, len(table.layers)), dtype=np.int8)
    start = time.perf_counter()
    totals = table.totals("latency", bits[0], bits[1])
    whole_s = time.perf_counter() - start
    start = time.perf_counter()
    sample = [layer_by_layer(table, w, a) for w, a in zip(bits[0, :SAMPLE], bits[1, :SAMPLE], strict=True)]
    single_s = (time.perf_counter() - start) * count / SAMPLE
    np.testing.assert_allclose(totals[:SAMPLE], sample)
    print(f"{count} random policies of MobileNet-V2 ({len(table.layers)} layers) on bismo-edge\n")
    print("| way | seconds | policies/s | ratio |\n|---|---|---|---|")
    print(f"| `CostTable.totals`, one call | {whole_s:.2f} | {count / whole_s:,.0f} | {single_s / whole_s:.0f} |")
    print(f"| one lookup a layer, summed in Python* | {single_s:.0f} | {count / single_s:,.0f} | 1 |")
    print(f"\n(*) extrapolated from {SAMPLE} policies.\n")


def layer_by_layer(table: CostTable, w_index: IntArray, a_index: IntArray) -> float:
    """Return the seconds of one policy, looked up one layer at a time."""
    assert table.latency_s is not None
    return sum(float(table.latency_s[layer, w, a]) for layer, (w, a) in enumerate(zip(w_index, a_index, strict=True)))


def build_tables() -> None:
    """Measure the seconds to price every layer at every pair of widths."""
    print(f"| seconds to build a table | {' | '.join(NETWORKS)} |\n|---|{'---|' * len(NETWORKS)}")
    total_s = 0.0
    for name in device_names():
        seconds = [table_seconds(name, network) for network in NETWORKS]
        total_s += sum(seconds)
        print(f"| {name} | {' | '.join(f'{one:.4f}' for one in seconds)} |")
    print(f"\nall together: {total_s:.1f} s")


def table_seconds(device: str, network: str) -> float:
    """Return the seconds for one device and one network, without caches."""
    accelerator, layers = load_accelerator(device), NETWORKS[network]()
    start = time.perf_counter()
    accelerator.table(layers)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

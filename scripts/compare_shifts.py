"""What a shift is worth to skewed values: signal to noise of SiLU(N(0, 1)) by kind of grid, as a Markdown table.

Every grid by calibration alone, and after learning its scale and shift from the squared error. "From a plain start"
begins with the grid without a shift, so that whatever it gains is learned.

    python scripts/compare_shifts.py --bits 2 3 4
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import silu

from haq.quantizers import build_histogram
from haq.quantizers.adaptive import AdaptiveQuantizer
from haq.quantizers.affine import Shift, affine_fits


@dataclass(frozen=True)
class Grid:
    """A kind of grid, and the kind that its calibration may use."""

    signed: bool
    shift: Shift
    start: Shift


GRIDS: Mapping[str, Grid] = {
    "unsigned, no shift": Grid(signed=False, shift="none", start="none"),
    "signed, no shift": Grid(signed=True, shift="none", start="none"),
    "integer zero point": Grid(signed=True, shift="integer", start="integer"),
    "integer zero point, from a plain start": Grid(signed=True, shift="integer", start="none"),
    "float shift": Grid(signed=True, shift="float", start="float"),
}


def ratio_db(quantizer: AdaptiveQuantizer, x: Tensor) -> float:
    """Signal to quantization noise."""
    with torch.no_grad():
        return float(10 * torch.log10(x.square().mean() / (quantizer(x) - x).square().mean()))


def calibrated(grid: Grid, bits: int, x: Tensor) -> AdaptiveQuantizer:
    """A quantizer at the least squared error of its start."""
    fit = affine_fits(build_histogram([x]), signed=grid.signed, shift=grid.start, bits=(bits,))[bits]
    quantizer = AdaptiveQuantizer(bits, shift=grid.shift)
    quantizer.start_at(torch.tensor(fit.scale), torch.tensor(fit.zero_point), signed=grid.signed)
    return quantizer


def learn(quantizer: AdaptiveQuantizer, x: Tensor, *, steps: int) -> None:
    """Adam with a cosine from 0.01 on the squared error, a batch of x at a time."""
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        batch = x[step % len(x)]
        optimizer.zero_grad()
        (quantizer(batch) - batch).square().mean().backward()
        optimizer.step()
        schedule.step()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", type=int, nargs="+", default=[2, 3, 4], metavar="N", help="bit widths (2 3 4)")
    parser.add_argument("--steps", type=int, default=400, help="steps of learning (default: 400)")
    arguments = parser.parse_args()
    x = silu(torch.randn(16, 256, 256, generator=torch.Generator().manual_seed(0)))
    print(f"dB, calibrated -> learned in {arguments.steps} steps, on {x.numel():,} values\n")
    print("| grid | " + " | ".join(f"{bits} bits" for bits in arguments.bits) + " |")
    print("|---" * (len(arguments.bits) + 1) + "|")
    for name, grid in GRIDS.items():
        cells = []
        for bits in arguments.bits:
            quantizer = calibrated(grid, bits, x)
            before = ratio_db(quantizer, x)
            learn(quantizer, x, steps=arguments.steps)
            cells.append(f"{before:.2f} -> {ratio_db(quantizer, x):.2f}")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()

"""Make the table of the device mcu-cortex-m7-measured from tables of counted instructions, and judge its formula.

    PYTHONPATH=scripts/experiments python scripts/experiments/mcu_table.py results/mcu > results/mcu/README.md

reads `digits_cnn.csv`, `resnet8.csv` and `shapes.csv`, which `haq hardware measure --target mcu-c` wrote, and writes
`hardware_sim/devices/mcu-cortex-m7-measured.csv`. The error of the formula is that for layers that it was not fitted
to: each measured layer in turn is left out.
"""

import argparse
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from haq.config import search_config
from haq.experiment.loading import load_traced
from haq.exporters.c.measurement.table import InstructionRow, rows_from_csv
from hardware_sim.instruction_fit import leave_one_out_errors
from hardware_sim.instruction_table import MeasuredShape, Widths, shape_of, write_shapes
from hardware_sim.layer import Layer

NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "digits_cnn": {"model": "digits_cnn"},
    "resnet8": {"model": "resnet8"},
    "shapes": {"model": "mcu_shapes:network", "input": (1, 1, 1)},
}
DEVICE_TABLE = Path("hardware_sim/devices/mcu-cortex-m7-measured.csv")
KERNEL_BITS = (2, 4, 8)
"""Widths of the rates of the device mcu-cortex-m7."""


def layers_of(name: str) -> Sequence[Layer]:
    return load_traced(search_config(**NETWORKS[name])).layers


def read_table(path: Path) -> list[InstructionRow]:
    return rows_from_csv(path.read_text(encoding="utf-8").splitlines())


def measured_shapes(folder: Path) -> tuple[MeasuredShape, ...]:
    """All shapes of all networks, the first table that has a shape first."""
    found: dict[Layer, dict[Widths, int]] = {}
    for name in NETWORKS:
        counts: dict[str, dict[Widths, int]] = {}
        for row in read_table(folder / f"{name}.csv"):
            counts.setdefault(row.layer, {})[row.w_bits, row.a_bits] = row.instructions
        for layer in layers_of(name):
            found.setdefault(shape_of(layer), counts[layer.name])
    return tuple(MeasuredShape(layer, rows) for layer, rows in found.items())


def errors_by_kind(shapes: Sequence[MeasuredShape]) -> Iterator[tuple[str, int, np.ndarray]]:
    """Kind, number of shapes, and leave-one-layer-out errors [widths, shape]."""
    for kind in dict.fromkeys(shape.layer.kind for shape in shapes):
        chosen = [shape for shape in shapes if shape.layer.kind == kind]
        layers = [shape.layer for shape in chosen]
        errors = [
            leave_one_out_errors(layers, [shape.instructions[widths] for shape in chosen])
            for widths in chosen[0].instructions
        ]
        yield kind, len(chosen), np.array(errors)


def rates(folder: Path) -> Iterator[list[float]]:
    """Instructions per MAC of ResNet-8, rows by bits of weights, columns by bits of inputs."""
    macs = sum(layer.macs for layer in layers_of("resnet8"))
    totals = dict.fromkeys(product(KERNEL_BITS, KERNEL_BITS), 0)
    for row in read_table(folder / "resnet8.csv"):
        if (row.w_bits, row.a_bits) in totals:
            totals[row.w_bits, row.a_bits] += row.instructions
    for w_bits in KERNEL_BITS:
        yield [round(totals[w_bits, a_bits] / macs, 2) for a_bits in KERNEL_BITS]


def uniform_rows(folder: Path, name: str) -> Iterator[str]:
    rows = read_table(folder / f"{name}.csv")
    widths = sorted({row.w_bits for row in rows})
    for w_bits in widths:
        totals = [
            sum(row.instructions for row in rows if (row.w_bits, row.a_bits) == (w_bits, a_bits)) for a_bits in widths
        ]
        yield f"| {w_bits} | {' | '.join(f'{total / 1e6:.2f}' for total in totals)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    shapes = measured_shapes(folder)
    DEVICE_TABLE.write_text(write_shapes(shapes), encoding="utf-8")
    print("\n".join(page(folder, shapes)))


def page(folder: Path, shapes: Sequence[MeasuredShape]) -> Iterator[str]:
    setup = tomllib.loads((folder / "resnet8.toml").read_text(encoding="utf-8"))["description"]
    yield from ("# Instructions of the exported C kernels on a Cortex-M7", "", INTRODUCTION, "", f"Setup: {setup}.", "")
    for name in ("digits_cnn", "resnet8"):
        yield f"## {name}, all layers at the same bits, million instructions an image"
        yield from ("", "| weights \\ inputs | 2 | 3 | 4 | 5 | 6 | 7 | 8 |", "|---|---|---|---|---|---|---|---|")
        yield from (*uniform_rows(folder, name), "")
    yield from ("## Error of the formula for shapes that were not measured", "", ERRORS, "")
    yield from ("| kind | shapes | median error | 90th percentile | largest |", "|---|---|---|---|---|")
    for kind, count, errors in errors_by_kind(shapes):
        median, high, largest = 100 * np.percentile(errors, (50, 90, 100))
        yield f"| {kind} | {count} | {median:.1f} % | {high:.1f} % | {largest:.1f} % |"
    yield from ("", "## Rates of mcu-cortex-m7", "", RATES, "")
    yield from ("| weights \\ inputs | 2 | 4 | 8 |", "|---|---|---|---|")
    for w_bits, row in zip(KERNEL_BITS, rates(folder), strict=True):
        yield f"| {w_bits} | {' | '.join(map(str, row))} |"


INTRODUCTION = """\
Counted in QEMU, exactly and the same every time, by

    haq hardware measure --target mcu-c --model digits_cnn --out results/mcu/digits_cnn.csv
    haq hardware measure --target mcu-c --model resnet8 --out results/mcu/resnet8.csv
    PYTHONPATH=scripts/experiments haq hardware measure --target mcu-c --model mcu_shapes:network --input 1x1x1 \\
        --out results/mcu/shapes.csv
    PYTHONPATH=scripts/experiments python scripts/experiments/mcu_table.py results/mcu > results/mcu/README.md

Instructions are not cycles: the emulator knows no caches and no dual issue. Weights and inputs are random; the input
and output of a layer are unsigned and of the same width. Additions, pooling and changes of width between layers are
not counted."""
ERRORS = """\
Each measured shape in turn is left out, the formula is fitted to the other shapes of its kind, and predicts it; over
all 49 pairs of widths."""
RATES = "Instructions per MAC of all layers of ResNet-8, which that device takes as cycles per MAC."

if __name__ == "__main__":
    main()

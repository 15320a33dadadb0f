"""Tables of instructions of a network's layers, which can be used as devices."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import product
from pathlib import Path
from typing import NamedTuple

from haq.costs.measured_table import MeasuredTable
from haq.execution.progress import SILENT, Watcher
from haq.exporters.c.measurement.layer_network import check_kind
from haq.files import append_line
from haq.formatting import format_count
from haq.runs.locking import exclusive_file
from hardware_sim.instruction_table import Widths, shape_of
from hardware_sim.layer import Layer

COLUMNS = ("layer", "w_bits", "a_bits", "instructions", "latency_s", "batch")
CLOCK_HZ = 480e6
"""Clock of the fastest STM32H7, the default of tables."""
CAVEATS = (
    "latency_s is an estimate of time, instructions divided by the clock: instructions are not cycles.",
    "Each layer was run alone; additions, pooling and changes of width between layers are not counted.",
)
Count = Callable[[Layer, int, int], int]
"""Function from a layer, its w_bits and its a_bits to its instructions."""


class InstructionRow(NamedTuple):
    """Instructions of one layer at one pair of widths.

    Attributes:
        layer: Name of the layer.
        w_bits: Bits of the weights.
        a_bits: Bits of the input.
        instructions: Instructions of one image.
    """

    layer: str
    w_bits: int
    a_bits: int
    instructions: int

    def to_csv(self, *, clock_hz: float) -> str:
        """Return the row as a line of the table, in the order of `COLUMNS`.

        Args:
            clock_hz: Clock at which instructions are given as time.

        Returns:
            The line, without its end.

        >>> InstructionRow("fc", 4, 8, 4800).to_csv(clock_hz=480e6)
        'fc,4,8,4800,1e-05,1'
        """
        line = StringIO()
        csv.writer(line, lineterminator="").writerow((*self, self.instructions / clock_hz, 1))
        return line.getvalue()


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionSetup:
    """What is measured and how.

    Attributes:
        model: Name of the network.
        input_shape: Shape of its input, without the batch.
        compiler: Name and version of the compiler.
        clock_hz: Clock at which instructions are given as time.
        widths: Bits of weights and of inputs, each with each.
    """

    model: str
    input_shape: tuple[int, ...]
    compiler: str
    clock_hz: float = CLOCK_HZ
    widths: tuple[int, ...] = tuple(range(2, 9))

    @property
    def description(self) -> str:
        """One line that describes the measurement."""
        shape = "x".join(map(str, self.input_shape))
        return (
            f"{self.model}, input {shape}, C kernels on an emulated Cortex-M7: instructions at "
            f"{self.clock_hz / 1e6:g} MHz, {self.compiler}"
        )

    @property
    def pairs(self) -> tuple[Widths, ...]:
        """(w_bits, a_bits) of every measurement of a layer."""
        return tuple(product(self.widths, self.widths))


def measure_instructions(
    layers: Sequence[Layer], path: Path, *, setup: InstructionSetup, count: Count, watcher: Watcher = SILENT
) -> list[InstructionRow]:
    """Count the instructions of every layer at every pair of widths.

    Each row is written as soon as it is measured, and an unfinished table of the same setup is continued. Beside the
    table a .toml device is written. Layers of equal shape are measured once.

    Args:
        layers: Layers of the network.
        path: The table, a .csv file in a folder that exists.
        setup: What is measured.
        count: Counts the instructions of a layer.
        watcher: Receives a line per layer.

    Returns:
        The rows of the table.

    Raises:
        UnsupportedError: There is no C kernel for a layer.
        UserError: The path cannot be used, or a tool is missing.
    """
    for layer in layers:
        check_kind(layer)
    table = MeasuredTable(path=path, columns=COLUMNS, description=setup.description, batch=1, notes=CAVEATS)
    table.check()
    with exclusive_file(path):
        known = {row[:3]: row.instructions for row in table.rows(rows_from_csv)}
        rows = []
        for row in _counted(layers, known, setup.pairs, count):
            if row[:3] not in known:
                append_line(path, row.to_csv(clock_hz=setup.clock_hz))
            rows.append(row)
            if len(rows) % len(setup.pairs) == 0:
                watcher.line(_result(rows[-len(setup.pairs) :]))
        return rows


def rows_from_csv(lines: Iterable[str]) -> list[InstructionRow]:
    """Read the rows of a table.

    Args:
        lines: Lines of the table, the first with the names of the columns.

    Returns:
        One row per line after the first.

    Raises:
        ValueError: A line has no numbers where they should be. Missing columns raise KeyError or TypeError.
    """
    return [
        InstructionRow(each["layer"], int(each["w_bits"]), int(each["a_bits"]), int(each["instructions"]))
        for each in csv.DictReader(lines)
    ]


def _counted(
    layers: Sequence[Layer], known: Mapping[tuple[str, int, int], int], pairs: Sequence[Widths], count: Count
) -> Iterator[InstructionRow]:
    """Yield the rows of all layers; those of a shape that is known are not counted again."""
    cells = [(layer, *widths) for layer in layers for widths in pairs]
    counted = {
        (shape_of(layer), w_bits, a_bits): known[layer.name, w_bits, a_bits]
        for layer, w_bits, a_bits in cells
        if (layer.name, w_bits, a_bits) in known
    }
    for layer, w_bits, a_bits in cells:
        cell = shape_of(layer), w_bits, a_bits
        if cell not in counted:
            counted[cell] = count(layer, w_bits, a_bits)
        yield InstructionRow(layer.name, w_bits, a_bits, known.get((layer.name, w_bits, a_bits), counted[cell]))


def _result(rows: Sequence[InstructionRow]) -> str:
    """Describe the measurements of a layer."""
    fewest, most = (pick(rows, key=lambda row: row.instructions) for pick in (min, max))
    return f"{rows[0].layer}: {_described(fewest)} to {_described(most)}"


def _described(row: InstructionRow) -> str:
    return f"{format_count(row.instructions)} instructions at {row.w_bits}/{row.a_bits} bits"

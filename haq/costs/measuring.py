"""Latency of a network's layers on this machine's processor, as a table that can be used as a device."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np

from haq.costs.measured_table import MeasuredTable
from haq.execution.progress import SILENT, Watcher
from haq.files import append_line
from haq.formatting import format_seconds
from haq.runs.environment import describe_environment
from haq.runs.locking import exclusive_file
from hardware_sim.cost import Bits
from hardware_sim.instruction_table import shape_of
from hardware_sim.layer import Layer

WARM_UP_RUNS = 3
PRECISIONS: tuple[Bits, ...] = (None, 8)
"""Widths of weights and activations that are timed; None is float32."""
FLOAT = "float"
"""Width of float32 in a table."""
COLUMNS = ("layer", "w_bits", "a_bits", "latency_s", "energy_j", "latency_iqr_s", "batch")
CAVEAT = "Each layer was timed alone; in a whole network layers share caches and layouts, so that a sum is an estimate."


class Timing(NamedTuple):
    """Time of one batch: median and interquartile range of several runs, in seconds."""

    latency_s: float
    latency_iqr_s: float


class Row(NamedTuple):
    """Time of one layer at one width.

    Attributes:
        layer: Name of the layer.
        bits: Width of weights and activations; None is float32.
        timing: Time of a batch.
    """

    layer: str
    bits: Bits
    timing: Timing

    def to_csv(self, *, batch: int) -> str:
        """Return the row as a line of the table, in the order of `COLUMNS`.

        Args:
            batch: Size of the batch.

        Returns:
            The line, without its end.

        >>> Row("fc", None, Timing(0.5, 0.25)).to_csv(batch=2)
        'fc,float,float,0.5,,0.25,2'
        """
        width = FLOAT if self.bits is None else str(self.bits)
        line = StringIO()
        values = (self.layer, width, width, self.timing.latency_s, "", self.timing.latency_iqr_s, batch)
        csv.writer(line, lineterminator="").writerow(values)
        return line.getvalue()


def rows_from_csv(lines: Iterable[str]) -> list[Row]:
    """Read the rows of a table.

    Args:
        lines: Lines of the table, the first with the names of the columns.

    Returns:
        One row per line after the first.

    Raises:
        ValueError: A line has no numbers where they should be. Missing columns raise KeyError or TypeError.
    """
    return [
        Row(
            each["layer"],
            None if each["w_bits"] == FLOAT else int(each["w_bits"]),
            Timing(float(each["latency_s"]), float(each["latency_iqr_s"])),
        )
        for each in csv.DictReader(lines)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Layers to time, and the settings of the timing.

    Attributes:
        model: Name of the network.
        input_shape: Shape of its input, without the batch.
        batch: Size of the batch.
        threads: Threads of onnxruntime.
        repeats: Timed runs of each layer.
    """

    model: str
    input_shape: tuple[int, ...]
    batch: int = 1
    threads: int = 1
    repeats: int = 30

    @property
    def description(self) -> str:
        """One line that describes the setup and this machine."""
        machine = describe_environment(seed=0, device="cpu")
        version = machine["packages"]["onnxruntime"]
        shape = "x".join(map(str, self.input_shape))
        return (
            f"{self.model}, input {shape}, on {machine['processor']}: onnxruntime {version}, "
            f"threads: {self.threads}, medians of {self.repeats} runs"
        )


def measure_layers(layers: Sequence[Layer], path: Path, *, setup: Setup, watcher: Watcher = SILENT) -> list[Row]:
    """Time every layer in float32 and int8 with onnxruntime.

    Each row is written as soon as it is measured, and an unfinished table of the same setup is continued. Beside the
    table a .toml device is written that describes the setup and rounds other widths up. Layers of equal shape are timed
    once.

    Args:
        layers: Layers of the network.
        path: The table, a .csv file in a folder that exists.
        setup: Layers to time, and the settings of the timing.
        watcher: Receives a line per measurement.

    Returns:
        The rows of the table, float32 and int8 of each layer.

    Raises:
        UserError: A layer cannot be timed alone, or the path cannot be used.
    """
    from haq.costs.layer_graph import onnx_shape

    for layer in layers:
        onnx_shape(layer, batch=setup.batch)
    table = MeasuredTable(path=path, columns=COLUMNS, description=setup.description, batch=setup.batch, notes=(CAVEAT,))
    table.check()
    with exclusive_file(path):
        return _measured(layers, table, setup=setup, watcher=watcher)


def _measured(layers: Sequence[Layer], table: MeasuredTable, *, setup: Setup, watcher: Watcher) -> list[Row]:
    measured = {(row.layer, row.bits): row for row in table.rows(rows_from_csv)}
    timings = {
        (shape_of(layer), bits): measured[layer.name, bits].timing
        for layer, bits in _cells(layers)
        if (layer.name, bits) in measured
    }
    rows = []
    for layer, bits in _cells(layers):
        cell = shape_of(layer), bits
        if cell not in timings:
            timings[cell] = time_layer(layer, setup, is_int8=bits is not None)
        row = measured.get((layer.name, bits)) or Row(layer.name, bits, timings[cell])
        if (layer.name, bits) not in measured:
            append_line(table.path, row.to_csv(batch=setup.batch))
        watcher.line(_result(row))
        rows.append(row)
    return rows


def _result(row: Row) -> str:
    """Describe a measurement."""
    median, spread = map(format_seconds, row.timing)
    return f"{row.layer} {'float32' if row.bits is None else 'int8'}: {median}, spread {spread}"


def time_layer(layer: Layer, setup: Setup, *, is_int8: bool) -> Timing:
    """Time a layer alone on random numbers, after some runs to warm up.

    Args:
        layer: The layer.
        setup: Size of the batch, threads and number of runs.
        is_int8: Whether weights and activations are 8-bit integers instead of float32.

    Returns:
        Time of a batch.
    """
    import onnxruntime

    from haq.costs.layer_graph import layer_graph
    from haq.execution.onnx_sessions import session_options

    generator = np.random.default_rng(0)
    graph = layer_graph(layer, batch=setup.batch, is_int8=is_int8, generator=generator)
    session = onnxruntime.InferenceSession(
        graph, session_options(threads=setup.threads), providers=["CPUExecutionProvider"]
    )
    values = generator.integers(0, 256, session.get_inputs()[0].shape, dtype=np.uint8)
    # Bound once, so that no run copies its input or allocates its output.
    binding = session.io_binding()
    binding.bind_cpu_input("x", values if is_int8 else values.astype(np.float32) / 255)
    binding.bind_output("y")
    seconds = []
    for _ in range(WARM_UP_RUNS + setup.repeats):
        start = perf_counter()
        session.run_with_iobinding(binding)
        seconds.append(perf_counter() - start)
    low, median, high = np.percentile(seconds[WARM_UP_RUNS:], (25, 50, 75))
    return Timing(float(median), float(high - low))


def _cells(layers: Sequence[Layer]) -> Iterator[tuple[Layer, Bits]]:
    return ((layer, bits) for layer in layers for bits in PRECISIONS)

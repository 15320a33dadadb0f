"""Latency of a network's layers on this machine's processor, as a table that can be used as a device."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np

from haq.errors import UserError
from haq.execution.progress import SILENT, Watcher
from haq.files import append_line, write_atomically
from haq.formatting import format_seconds
from haq.runs.environment import describe_environment
from haq.runs.locking import exclusive_file
from hardware_sim.catalog import device_names
from hardware_sim.cost import Bits
from hardware_sim.layer import Layer
from hardware_sim.lookup import csv_device

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
    _check_table_path(path)
    with exclusive_file(path):
        return _measured(layers, path, setup=setup, watcher=watcher)


def _measured(layers: Sequence[Layer], path: Path, *, setup: Setup, watcher: Watcher) -> list[Row]:
    measured = {(row.layer, row.bits): row for row in _open_table(path, setup)}
    timings = {
        (_shape(layer), bits): measured[layer.name, bits].timing
        for layer, bits in _cells(layers)
        if (layer.name, bits) in measured
    }
    rows = []
    for layer, bits in _cells(layers):
        cell = _shape(layer), bits
        if cell not in timings:
            timings[cell] = time_layer(layer, setup, is_int8=bits is not None)
        row = measured.get((layer.name, bits)) or Row(layer.name, bits, timings[cell])
        if (layer.name, bits) not in measured:
            append_line(path, row.to_csv(batch=setup.batch))
        watcher.line(_result(row))
        rows.append(row)
    return rows


def _result(row: Row) -> str:
    """Describe a measurement."""
    median, spread = map(format_seconds, row.timing)
    return f"{row.layer} {'float32' if row.bits is None else 'int8'}: {median}, spread {spread}"


def device_file(path: Path) -> Path:
    """Return the path of the .toml device that belongs to a table.

    Args:
        path: The table.

    Returns:
        File of the same name beside it.
    """
    return path.with_suffix(".toml")


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

    generator = np.random.default_rng(0)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = setup.threads
    options.inter_op_num_threads = 1
    graph = layer_graph(layer, batch=setup.batch, is_int8=is_int8, generator=generator)
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
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


def _shape(layer: Layer) -> Layer:
    """Return a layer without its name and tensors; equal for layers that take equally long."""
    return replace(layer, name="", tied_to=None, input_tensors=(), output_tensor=None, held_tensors=())


def _check_table_path(path: Path) -> None:
    """Raise UserError for a path that cannot be that of a table."""
    if path.suffix != ".csv":
        raise UserError(f"--out {path}: the table's name must end in .csv")
    if not path.parent.is_dir():
        raise UserError(f"--out {path}: there is no folder {path.parent}")
    if path.stem in device_names():
        raise UserError(f"--out {path}: {path.stem} is the name of a shipped device; choose another")


def _open_table(path: Path, setup: Setup) -> list[Row]:
    """Write the device file, and return the rows of an unfinished table of the same setup. Raises UserError."""
    device, text = device_file(path), _device_text(path, setup)
    try:
        before = device.read_text(encoding="utf-8") if device.exists() else None
        if before not in (text, None) or (before is None and path.exists()):
            raise UserError(
                f"{device if before else path} is there already, of another measurement; choose another --out"
            )
        write_atomically(device, text.encode())
        return _rows_so_far(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--out {path} cannot be used: {error}") from error


def _device_text(path: Path, setup: Setup) -> str:
    values = {
        "kind": "lookup",
        "name": csv_device(path)["name"],
        "description": setup.description[:400],
        "batch": setup.batch,
        "table_file": path.name,
        "round_up": True,
        "validation": [CAVEAT],
    }
    # Texts, integers, booleans and lists are written the same in JSON and TOML.
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join(["# Written by `haq hardware measure`.", *lines]) + "\n"


def _rows_so_far(path: Path) -> list[Row]:
    """Read a table, remove an unfinished last line, and write the names of the columns to a new one."""
    content = path.read_text(encoding="utf-8") if path.exists() else ""
    whole = content[: content.rfind("\n") + 1] or f"{','.join(COLUMNS)}\n"
    if whole != content:
        write_atomically(path, whole.encode())
    try:
        return rows_from_csv(whole.splitlines())
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged; delete it and measure again") from error

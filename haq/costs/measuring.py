"""Time the layers of a network on this machine's processor: a table of costs that is a device."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
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
from hardware_sim.layer import Layer
from hardware_sim.lookup import csv_device

WARM_UP_RUNS = 3
PRECISIONS = ("float", "8")
"""What is timed: float32, and integers of 8 bits for weights and activations alike, as a table writes them."""
COLUMNS = ("layer", "w_bits", "a_bits", "latency_s", "energy_j", "latency_iqr_s", "batch")
CAVEAT = "Each layer was timed alone; in a whole network layers share caches and layouts, so that a sum is an estimate."


class Timing(NamedTuple):
    """Median and interquartile range of the time of one batch."""

    latency_s: float
    latency_iqr_s: float


class Row(NamedTuple):
    """One layer in one precision."""

    layer: str
    precision: str
    timing: Timing

    @property
    def bits(self) -> int | None:
        """Of weights and activations; None is float."""
        return None if self.precision == "float" else int(self.precision)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What is timed, and how."""

    model: str
    input_shape: tuple[int, ...]
    batch: int = 1
    threads: int = 1
    repeats: int = 30

    @property
    def description(self) -> str:
        """The setup and this machine, in one line."""
        machine = describe_environment(seed=0, device="cpu")
        version = machine["packages"]["onnxruntime"]
        shape = "x".join(map(str, self.input_shape))
        return (
            f"{self.model}, input {shape}, on {machine['processor']}: onnxruntime {version}, "
            f"threads: {self.threads}, medians of {self.repeats} runs"
        )


def measure_layers(layers: Sequence[Layer], path: Path, *, setup: Setup, watcher: Watcher = SILENT) -> list[Row]:
    """Time every layer in float32 and int8 with onnxruntime; returns the rows of the table.

    `path` takes the table, a .csv of which each row is written as soon as it is known; beside it lies a .toml device
    that says how it came about and rounds widths up. A table that the same setup began is continued; layers of equal
    shape are timed once. Raises UserError for a kind of layer that cannot be timed and for a path that cannot be used.
    """
    from haq.costs.layer_graph import onnx_shape

    for layer in layers:
        onnx_shape(layer, batch=setup.batch)
    _check_table_path(path)
    with exclusive_file(path):
        return _measured(layers, path, setup=setup, watcher=watcher)


def _measured(layers: Sequence[Layer], path: Path, *, setup: Setup, watcher: Watcher) -> list[Row]:
    known = _open_table(path, setup)
    timings = {
        (_shape(layer), precision): known[layer.name, precision]
        for layer, precision in _cells(layers)
        if (layer.name, precision) in known
    }
    rows = []
    for layer, precision in _cells(layers):
        cell = _shape(layer), precision
        if cell not in timings:
            timings[cell] = time_layer(layer, setup, is_int8=precision != "float")
        row = Row(layer.name, precision, known.get((layer.name, precision), timings[cell]))
        if (layer.name, precision) not in known:
            _append(path, row, batch=setup.batch)
        watcher.line(_result(row))
        rows.append(row)
    return rows


def _result(row: Row) -> str:
    """Describe a measurement."""
    median, spread = map(format_seconds, row.timing)
    return f"{row.layer} {'float32' if row.precision == 'float' else 'int8'}: {median}, spread {spread}"


def device_file(path: Path) -> Path:
    """The device that describes a table."""
    return path.with_suffix(".toml")


def time_layer(layer: Layer, setup: Setup, *, is_int8: bool) -> Timing:
    """Run a layer alone on random numbers, after some runs to warm up."""
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


def _cells(layers: Sequence[Layer]) -> Iterator[tuple[Layer, str]]:
    return ((layer, precision) for layer in layers for precision in PRECISIONS)


def _shape(layer: Layer) -> Layer:
    """What two layers that take equally long have in common."""
    return replace(layer, name="", tied_to=None, input_tensors=(), output_tensor=None, held_tensors=())


def _check_table_path(path: Path) -> None:
    """Raise UserError for a name that no table may have."""
    if path.suffix != ".csv":
        raise UserError(f"--out {path}: the table's name must end in .csv")
    if not path.parent.is_dir():
        raise UserError(f"--out {path}: there is no folder {path.parent}")
    if path.stem in device_names():
        raise UserError(f"--out {path}: {path.stem} is the name of a shipped device; choose another")


def _open_table(path: Path, setup: Setup) -> Mapping[tuple[str, str], Timing]:
    """The rows of a table that the same setup began, or none, with the device file in place. Raises UserError."""
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
    # What JSON writes of texts, whole numbers, truth values and lists is TOML as well.
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join(["# Written by `haq hardware measure`.", *lines]) + "\n"


def _rows_so_far(path: Path) -> dict[tuple[str, str], Timing]:
    """The whole lines of a table; what a kill left of one more is cut off. A new table gets its first line."""
    content = path.read_text(encoding="utf-8") if path.exists() else ""
    whole = content[: content.rfind("\n") + 1] or f"{','.join(COLUMNS)}\n"
    if whole != content:
        write_atomically(path, whole.encode())
    rows = csv.DictReader(whole.splitlines())
    try:
        return {
            (row["layer"], row["w_bits"]): Timing(float(row["latency_s"]), float(row["latency_iqr_s"])) for row in rows
        }
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged; delete it and measure again") from error


def _append(path: Path, row: Row, *, batch: int) -> None:
    line, bits = StringIO(), row.precision
    values = (row.layer, bits, bits, row.timing.latency_s, "", row.timing.latency_iqr_s, batch)
    csv.writer(line, lineterminator="").writerow(values)
    append_line(path, line.getvalue())

"""Devices whose costs are looked up in a table of measurements instead of being modelled."""

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, PrivateAttr, ValidationInfo, model_validator

from hardware_sim import proxy
from hardware_sim.accelerator import Accelerator, ClockHz, resolve_batch
from hardware_sim.cost import WIDTHS, Bits, CostTable, FloatArray, UnsupportedError, width_index
from hardware_sim.file_limits import COST_TABLE, require_size
from hardware_sim.layer import Layer

KEY_COLUMNS = ("layer", "w_bits", "a_bits")
VALUE_COLUMNS = ("latency_s", "energy_j")
BATCH_COLUMN = "batch"
INSTRUCTIONS_COLUMN = "instructions"
OPTIONAL_COLUMNS = (BATCH_COLUMN, "latency_iqr_s", INSTRUCTIONS_COLUMN)
"""Columns that a table may have: the batch of the measurement, the spread of repeated measurements, and instructions
that the latency was computed from."""
FLOAT_WORD = "float"
Width = Annotated[int, Field(strict=True, ge=1, le=8)]
Widths = Annotated[tuple[Width, ...], Field(min_length=1)]
TimeUnit = Literal["cycles", "s", "ms", "us"]
SECONDS: Mapping[TimeUnit, float] = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


class MeasuredCosts(NamedTuple):
    """Costs [w_bits, a_bits] of one layer along WIDTHS; NaN where nothing was measured."""

    latency_s: FloatArray
    energy_j: FloatArray


class Lookup(Accelerator):
    """Table of costs with one row per layer and pair of widths, in a file beside the device file.

    A `.csv` has the columns layer, w_bits, a_bits and latency_s, energy_j or both; a width is 1 to 8 or `float`; rows
    are found by the layer's name. It may have a column `batch`, which must agree with the device's, and
    `latency_iqr_s`, the spread of a measurement, and `instructions`, which are not used; with the latter the latency is
    called an estimate. A `.npy` is an array [layer, w_bits, a_bits] of
    times in `unit` (`cycles` need `clock_hz`), with `w_bits` and `a_bits` along its axes; its rows are `layers` by
    name, or without that key the network's layers in order.

    Nothing is unpickled, scaled or interpolated: a missing layer is an error, a missing pair is NaN, and any other
    batch than the measured one is an error. With `round_up` a missing pair costs as much as the next wider measured
    one: the pair of the fewest bits that holds both operands, float counting as the widest. This fits devices that
    compute narrow operands in wider kernels. Layers that the network does not have are ignored, so that a part of a
    measured network can be searched.
    """

    kind: Literal["lookup"] = "lookup"
    table_file: Annotated[str, Field(min_length=1)]
    unit: TimeUnit = "s"
    clock_hz: ClockHz | None = None
    w_bits: Widths | None = None
    a_bits: Widths | None = None
    layers: tuple[str, ...] | None = None
    round_up: Annotated[bool, Field(strict=True)] = False
    _by_name: Mapping[str, MeasuredCosts] = PrivateAttr(default_factory=dict)
    _in_order: tuple[MeasuredCosts, ...] = PrivateAttr(default=())
    _has_instructions: bool = PrivateAttr(default=False)

    @model_validator(mode="after")
    def _read_table(self, info: ValidationInfo) -> Self:
        """Read the file; its path is relative to `info.context["folder"]`."""
        path = Path((info.context or {}).get("folder", "."), self.table_file)
        readers = {".csv": self._read_csv, ".npy": self._read_npy}
        if path.suffix.lower() not in readers:
            raise ValueError(f"table_file {self.table_file!r} must end in .csv or .npy")
        if not path.is_file():
            raise ValueError(f"table_file: no file {path}")
        require_size(path, COST_TABLE)
        readers[path.suffix.lower()](path)
        return self

    def _read_csv(self, path: Path) -> None:
        extra = [key for key in ("unit", "clock_hz", "w_bits", "a_bits", "layers") if key in self.model_fields_set]
        if extra:
            raise ValueError(f"{', '.join(extra)}: only for a .npy table; a .csv has these in its columns")
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                lines = csv.reader(file, strict=True)
                header = next(lines, [])
                self._by_name = _measurements(header, lines, path.name, batch=self.batch)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path.name}: not a CSV file: {error}") from error
        self._has_instructions = INSTRUCTIONS_COLUMN in header

    def _read_npy(self, path: Path) -> None:
        if self.w_bits is None or self.a_bits is None:
            raise ValueError("a .npy table needs w_bits and a_bits, the widths along its axes")
        if self.unit == "cycles" and self.clock_hz is None:
            raise ValueError("unit 'cycles' needs clock_hz")
        times = _load_array(path)
        expected = (len(self.layers) if self.layers is not None else len(times), len(self.w_bits), len(self.a_bits))
        if times.shape != expected:
            raise ValueError(f"{path.name}: shape {times.shape}, but layers, w_bits and a_bits make {expected}")
        scale = 1 / self.clock_hz if self.unit == "cycles" and self.clock_hz else SECONDS.get(self.unit, 1.0)
        rows = [width_index(bits) for bits in self.w_bits]
        columns = [width_index(bits) for bits in self.a_bits]
        latency_s = np.full((len(times), len(WIDTHS), len(WIDTHS)), np.nan)
        latency_s[np.ix_(range(len(times)), rows, columns)] = times * scale
        measured = tuple(MeasuredCosts(one, np.full_like(one, np.nan)) for one in latency_s)
        if self.layers is None:
            self._in_order = measured
        else:
            self._by_name = dict(zip(self.layers, measured, strict=True))

    def table(self, layers: Sequence[Layer], *, batch: int | None = None) -> CostTable:
        """Look up the costs of layers; NaN for pairs that were not measured.

        Raises:
            UnsupportedError: The table lacks a layer, or was measured at another batch.
        """
        size = resolve_batch(self, batch)
        if size != self.batch:
            raise UnsupportedError(f"{self.name} was measured at batch {self.batch}, not {size}")
        rows = [_rounded_up(row) for row in self._rows(layers)] if self.round_up else self._rows(layers)
        shape = (len(layers), len(WIDTHS), len(WIDTHS))
        latency_s = np.array([row.latency_s for row in rows]).reshape(shape)
        energy_j = np.array([row.energy_j for row in rows]).reshape(shape)
        known_latency = None if np.isnan(latency_s).all() else latency_s
        return CostTable(
            hardware=self.name,
            layers=tuple(layers),
            batch=size,
            cycles=None if known_latency is None or self.clock_hz is None else latency_s * self.clock_hz,
            latency_s=known_latency,
            energy_parts_j={} if np.isnan(energy_j).all() else {"measured": energy_j},
            weight_bytes=proxy.weight_bytes(layers),
            bops=proxy.bops(layers),
            notes=self._notes,
        )

    @property
    def _notes(self) -> tuple[str, ...]:
        rounding = ("widths that it lacks cost what the next wider ones do",) if self.round_up else ()
        counted = ("latency is instructions divided by a clock, an estimate of time: instructions are not cycles",)
        return (
            f"looked up in {self.table_file}, not modelled",
            *rounding,
            *(counted if self._has_instructions else ()),
        )

    def _rows(self, layers: Sequence[Layer]) -> Sequence[MeasuredCosts]:
        if self._in_order:
            if len(layers) != len(self._in_order):
                raise UnsupportedError(
                    f"{self.table_file} has {len(self._in_order)} layers without names, the network {len(layers)}"
                )
            return self._in_order
        missing = [layer.name for layer in layers if layer.name not in self._by_name]
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise UnsupportedError(f"{self.table_file} has no rows for {', '.join(missing[:3])}{more}")
        return [self._by_name[layer.name] for layer in layers]


def csv_device(path: Path) -> Mapping[str, Any]:
    """Describe a `.csv` table of costs as a device.

    Args:
        path: The table.

    Returns:
        The keys and values of the equivalent device file.

    Example:
        >>> csv_device(Path("my board.csv"))["name"]
        'my-board'
    """
    return {
        "kind": "lookup",
        "name": re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")[:64] or "table",
        "description": f"a table of costs, {path.name}"[:400],
        "batch": _batch_of(path),
        "table_file": path.name,
    }


def _batch_of(path: Path) -> int:
    """Read the batch of the first row; 1 where there is none. Unreadable files are reported later, with a reason."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            text = next(csv.DictReader(file), {}).get(BATCH_COLUMN)
    except (OSError, UnicodeDecodeError, csv.Error):
        return 1
    return int(text) if text is not None and re.fullmatch("[1-9][0-9]{0,8}", text) else 1


def _rounded_up(measured: MeasuredCosts) -> MeasuredCosts:
    """Fill pairs that were not measured with the costs of the next wider measured pair."""
    indices = np.argwhere(~np.isnan(measured.latency_s) | ~np.isnan(measured.energy_j))
    filled = MeasuredCosts(measured.latency_s.copy(), measured.energy_j.copy())
    measured_pairs = {(int(row), int(column)) for row, column in indices}
    for at in np.ndindex(len(WIDTHS), len(WIDTHS)):
        wider = [pair for pair in measured_pairs if pair[0] >= at[0] and pair[1] >= at[1]]
        if wider:
            source = min(wider, key=lambda pair: (sum(pair), pair))
            for target, values in zip(filled, measured, strict=True):
                target[at] = values[source]
    return filled


def _measurements(
    header: Sequence[str], lines: Iterator[list[str]], file: str, *, batch: int
) -> dict[str, MeasuredCosts]:
    allowed = {*KEY_COLUMNS, *VALUE_COLUMNS, *OPTIONAL_COLUMNS}
    if not set(KEY_COLUMNS) <= set(header) <= allowed or not set(VALUE_COLUMNS) & set(header):
        found = repr(", ".join(header))[:200] if header else "missing"
        raise ValueError(
            f"{file}, line 1: columns are {found}; they must be {', '.join(KEY_COLUMNS)} and "
            f"{' or '.join(VALUE_COLUMNS)} or both, and may be {', '.join(OPTIONAL_COLUMNS)}"
        )
    result: dict[str, MeasuredCosts] = {}
    for number, cells in enumerate(lines, start=2):
        try:
            if cells:
                _add_row(result, header, cells, batch=batch)
        except ValueError as error:
            raise ValueError(f"{file}, line {number}: {error}") from error
    return result


def _add_row(result: dict[str, MeasuredCosts], header: Sequence[str], cells: Sequence[str], *, batch: int) -> None:
    if len(cells) != len(header):
        raise ValueError(f"{len(cells)} cells, but {len(header)} columns")
    row = dict(zip(header, cells, strict=True))
    if row.get(BATCH_COLUMN, str(batch)).strip() != str(batch):
        raise ValueError(f"batch {row[BATCH_COLUMN]!r}, but the device's is {batch}")
    at = width_index(_width(row["w_bits"])), width_index(_width(row["a_bits"]))
    shape = (len(WIDTHS), len(WIDTHS))
    measured = result.setdefault(row["layer"], MeasuredCosts(np.full(shape, np.nan), np.full(shape, np.nan)))
    if not all(np.isnan(values[at]) for values in measured):
        raise ValueError(
            f"layer {row['layer']!r} at {row['w_bits'].strip()} x {row['a_bits'].strip()} bits was given before"
        )
    for name, values in measured._asdict().items():
        values[at] = _cost(name, row.get(name, ""))


def _width(text: str) -> Bits:
    if text.strip() == FLOAT_WORD:
        return None
    if text.strip() not in map(str, range(1, 9)):
        raise ValueError(f"width {text!r} is neither 1 to 8 nor {FLOAT_WORD}")
    return int(text)


def _cost(name: str, text: str) -> float:
    if not text.strip():
        return math.nan
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name} {text!r} is not a number") from None
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and not negative, got {text.strip()}")
    return value


def _load_array(path: Path) -> FloatArray:
    try:
        # Memory-mapped, so that a header that claims more data than the file holds fails before memory is allocated.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path.name}: not a .npy array: {error}") from error
    if array.ndim != 3 or array.dtype.kind not in "iuf":
        raise ValueError(f"{path.name}: must be numbers [layer, w_bits, a_bits], got {array.dtype} {array.shape}")
    times = np.array(array, dtype=np.float64)
    if not np.isfinite(times).all() or (times < 0).any():
        raise ValueError(f"{path.name}: times must be finite and not negative")
    return times

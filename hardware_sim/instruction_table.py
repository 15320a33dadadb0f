"""Tables of measured instructions by the shape of a layer, as `.csv` files."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, get_args

from hardware_sim.file_limits import INSTRUCTION_TABLE, require_size
from hardware_sim.layer import Layer, LayerKind, Size

SHAPE_COLUMNS = ("kind", "c_in", "c_out", "kernel", "stride", "dilation", "groups", "input_size", "output_size")
COLUMNS = (*SHAPE_COLUMNS, "w_bits", "a_bits", "instructions")
Widths = tuple[int, int]
"""(w_bits, a_bits)"""


class MeasuredShape(NamedTuple):
    """Instructions of one shape of layer.

    Attributes:
        layer: The shape, without a name.
        instructions: Instructions of one image by (w_bits, a_bits).
    """

    layer: Layer
    instructions: Mapping[Widths, int]


def shape_of(layer: Layer) -> Layer:
    """Return a layer without its name and tensors; equal for layers that take equally long.

    Args:
        layer: The layer.

    Returns:
        Its shape.
    """
    numberless = replace(layer, input_tensors=(), second_tensors=(), output_tensor=None, held_tensors=())
    return replace(numberless, name="", tied_to=None)


def read_shapes(path: Path) -> tuple[MeasuredShape, ...]:
    """Read a table.

    Args:
        path: The table.

    Returns:
        Measured shapes in the order of the file.

    Raises:
        ValueError: The file is missing, too large or not such a table; the message is one line.
    """
    if not path.is_file():
        raise ValueError(f"table_file: no file {path}")
    require_size(path, INSTRUCTION_TABLE)
    found: dict[Layer, dict[Widths, int]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            _read_rows(csv.reader(file, strict=True), found)
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise ValueError(f"{path.name}: {error}") from error
    return tuple(MeasuredShape(layer, rows) for layer, rows in found.items())


def write_shapes(shapes: Iterable[MeasuredShape]) -> str:
    """Write a table.

    Args:
        shapes: Measured shapes.

    Returns:
        Content of the file.
    """
    lines = [",".join(COLUMNS)]
    for layer, rows in shapes:
        lines += [f"{_shape_text(layer)},{w_bits},{a_bits},{count}" for (w_bits, a_bits), count in rows.items()]
    return "\n".join(lines) + "\n"


def _read_rows(lines: Iterable[Sequence[str]], found: dict[Layer, dict[Widths, int]]) -> None:
    for number, cells in enumerate(lines, start=1):
        if number == 1:
            if tuple(cells) != COLUMNS:
                raise ValueError(f"columns must be {','.join(COLUMNS)}")
            continue
        try:
            layer, widths, count = _row(cells)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
        rows = found.setdefault(layer, {})
        if widths in rows:
            raise ValueError(f"line {number}: the same shape and widths as before")
        rows[widths] = count


def _row(cells: Sequence[str]) -> tuple[Layer, Widths, int]:
    if len(cells) != len(COLUMNS):
        raise ValueError(f"{len(cells)} cells, but {len(COLUMNS)} columns")
    row = dict(zip(COLUMNS, cells, strict=True))
    kinds: tuple[LayerKind, ...] = get_args(LayerKind)
    kind = next((kind for kind in kinds if kind == row["kind"]), None)
    w_bits, a_bits, count = (int(row[name]) for name in ("w_bits", "a_bits", "instructions"))
    if kind is None or not (1 <= w_bits <= 8 and 1 <= a_bits <= 8) or count < 1:
        raise ValueError("an unknown kind, widths outside of 1 to 8 or no instructions")
    layer = Layer(
        name="",
        kind=kind,
        c_in=int(row["c_in"]),
        c_out=int(row["c_out"]),
        kernel=_size(row["kernel"]),
        stride=_size(row["stride"]),
        dilation=_size(row["dilation"]),
        groups=int(row["groups"]),
        input_size=_size(row["input_size"]),
        output_size=_size(row["output_size"]),
    )
    return layer, (w_bits, a_bits), count


def _size(text: str) -> Size:
    height, _, width = text.partition("x")
    return int(height), int(width)


def _shape_text(layer: Layer) -> str:
    kernel, stride, dilation = (f"{size[0]}x{size[1]}" for size in (layer.kernel, layer.stride, layer.dilation))
    before, after = (f"{size[0]}x{size[1]}" for size in (layer.input_size, layer.output_size))
    return f"{layer.kind},{layer.c_in},{layer.c_out},{kernel},{stride},{dilation},{layer.groups},{before},{after}"

"""Tables of bits: CSV with a header `layer,w_bits,a_bits`, separated by commas, semicolons or tabs."""

import csv
from io import StringIO

from haq.errors import UserError
from haq.interchange.columns import INPUTS, LAYER, OUTPUTS, WEIGHTS, imported, read_bits
from haq.interchange.document import MAX_ENTRIES
from haq.interchange.given_bits import ImportedBits
from hardware_sim.cost import Bits

_EXPECTED = "layer,w_bits,a_bits"


def is_table(text: str) -> bool:
    """Return whether the first line of a text is the header of a table of bits.

    Args:
        text: Content of a file.

    Returns:
        True if it has a column of layers.
    """
    header = text.split("\n", 1)[0]
    return any(name in header.lower() for name in LAYER) and not header.lstrip().startswith(("{", "["))


def read_table(text: str) -> ImportedBits:
    """Read the bits in a table.

    Args:
        text: Content of the file.

    Returns:
        Bits by layer; an empty cell or `float` leaves a tensor in float.

    Raises:
        UserError: The table has another form; the message names the line.
    """
    header = text.split("\n", 1)[0]
    reader = csv.reader(StringIO(text), delimiter=next((mark for mark in "\t;" if mark in header), ","), strict=True)
    rows: list[tuple[str, dict[str, Bits], str]] = []
    try:
        columns = _columns(next(reader, []))
        for cells in reader:
            place = f"line {reader.line_num}"
            if any(map(str.strip, cells)):
                rows.append(_row(columns, cells, place))
            if len(rows) > MAX_ENTRIES:
                raise UserError(f"{place}: more than {MAX_ENTRIES} layers")
    except csv.Error as error:
        raise UserError(f"line {reader.line_num}: {error}") from error
    if not rows:
        raise UserError(f"no layers; a line for each expected below {_EXPECTED}")
    return imported("table", rows)


def _columns(header: list[str]) -> list[str]:
    columns = [cell.strip().lower() for cell in header]
    known = [each for each in columns if each in (*WEIGHTS, *INPUTS, *OUTPUTS)]
    if not any(each in LAYER for each in columns) or not known:
        raise UserError(f"line 1: a header such as {_EXPECTED} expected")
    twice = [each for each in columns if each and columns.count(each) > 1]
    if twice:
        raise UserError(f"line 1: two columns {twice[0][:40]!r}")
    return columns


def _row(columns: list[str], cells: list[str], place: str) -> tuple[str, dict[str, Bits], str]:
    if len(cells) != len(columns):
        raise UserError(f"{place}: {len(columns)} cells expected, not {len(cells)}")
    values = dict(zip(columns, cells, strict=True))
    name = next(values[column].strip() for column in columns if column in LAYER)
    known = (each for each in columns if each in (*WEIGHTS, *INPUTS, *OUTPUTS))
    return name, {column: read_bits(values[column], f"{place}, {column}") for column in known}, place

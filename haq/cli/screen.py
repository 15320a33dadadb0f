"""Printing of text, tables and progress bars: wrapped and shortened to a terminal's width, unchanged in a pipe."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from textwrap import fill
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.progress import Progress, ProgressColumn, TextColumn
from rich.table import Table as RichTable
from rich.text import Text

from haq.errors import printable
from haq.formatting import shorten_all
from haq.tables import Table

GAP = 2
"""Spaces between two columns."""
MIN_NAME = 12
"""Least width of a shortened column of names, in characters."""


def console(stream: TextIO | None = None) -> Console:
    """Create a console for text without markup and highlighting.

    Args:
        stream: Stream to write to; standard output if None.

    Returns:
        The console.
    """
    return Console(file=stream or sys.stdout, markup=False, emoji=False, highlight=False)


def width_of(stream: TextIO) -> int | None:
    """Return the width of a terminal.

    Args:
        stream: Stream to write to.

    Returns:
        The number of columns; None for a pipe or a file, whose lines may have any length.
    """
    return console(stream).width if stream.isatty() else None


def literal(text: str) -> str:
    r"""Replace line breaks by spaces, and other characters that are not printable by question marks.

    Args:
        text: Text of any origin.

    Returns:
        One line that is safe to print.

    Examples:
        >>> literal("a\x1b[31m\nb")
        'a?[31m b'
    """
    return printable(" ".join(text.split("\n")))


def write_text(text: str, stream: TextIO) -> None:
    """Print a line, on a terminal wrapped between words with the further lines indented.

    Args:
        text: The line.
        stream: Stream to write to.
    """
    text, width = literal(text), width_of(stream)
    if width is not None and cell_len(text) > width:
        indent = " " * (len(text) - len(text.lstrip()) + 2)
        text = fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    stream.write(text + "\n")


def write_table(title: str, table: Table, stream: TextIO) -> None:
    """Print a title and a table; on a narrow terminal names are shortened, then columns continue below.

    Args:
        title: Line above the table; none if empty.
        table: The table.
        stream: Stream to write to.
    """
    width = width_of(stream)
    safe = replace(table, rows=tuple(tuple(map(literal, row)) for row in table.rows))
    blocks = [safe] if width is None else list(fit(safe, width))
    wide = Console(file=stream, markup=False, emoji=False, highlight=False, width=width or max(_width(safe), 1))
    if title:
        wide.print(Text(literal(title), style="bold"), soft_wrap=width is None)
    for block in blocks:
        wide.print(_rendered(block))


def fit(table: Table, width: int) -> Iterator[Table]:
    """Fit a table to a width: shorten names, else split the columns into several tables with the same names.

    Args:
        table: The table; one that wraps its last column is left as it is.
        width: Width of the terminal, in columns of characters.

    Yields:
        Tables that are printed below each other.

    Examples:
        >>> wide = Table(("layer", "a", "b"), (("features.0.conv", "1" * 8, "2" * 8),))
        >>> [each.rows for each in fit(wide, 32)]
        [(('feat….0.conv', '11111111', '22222222'),)]
        >>> [each.columns for each in fit(wide, 24)]
        [('layer', 'a'), ('layer', 'b')]
    """
    if table.wraps or _width(table) <= width:
        yield table
        return
    shorter = _shortened(table, _width(table) - width)
    whole, short = list(_split(table, width)), list(_split(shorter, width))
    fits = max(map(_width, whole)) <= width
    yield from whole if fits and len(whole) == len(short) else short


def progress_bar(*columns: ProgressColumn | str, is_shown: bool = True) -> Progress:
    """Create a progress bar on standard error, shown on terminals only.

    Args:
        columns: Columns of the bar; a text is a column whose fields are printed without markup.
        is_shown: Show the bar.

    Returns:
        The bar, not started yet.
    """
    safe = [TextColumn(each, markup=False) if isinstance(each, str) else each for each in columns]
    return Progress(*safe, console=console(sys.stderr), disable=not (is_shown and sys.stderr.isatty()))


def _width(table: Table) -> int:
    return sum(table.widths()) + GAP * (len(table.columns) - 1)


def _split(table: Table, width: int) -> Iterator[Table]:
    """Split the columns of numbers into tables that fit a width, each with all columns of names."""
    names = list(range(table.text_columns))
    block = names[:]
    for place in range(table.text_columns, len(table.columns)):
        if len(block) > len(names) and _width(table.select_columns([*block, place])) > width:
            yield table.select_columns(block)
            block = names[:]
        block.append(place)
    yield table.select_columns(block)


def _shortened(table: Table, excess: int) -> Table:
    """Shorten the columns of names by a number of characters, the widest first."""
    for _ in range(table.text_columns):
        widths = table.widths()[: table.text_columns]
        place = max(range(len(widths)), key=widths.__getitem__)
        longest = max(widths[place] - excess, MIN_NAME)
        if excess <= 0 or longest >= widths[place]:
            return table
        short = shorten_all([row[place] for row in table.rows], longest)
        rows = ((*row[:place], cell, *row[place + 1 :]) for row, cell in zip(table.rows, short, strict=True))
        table = replace(table, rows=tuple(rows))
        excess -= widths[place] - table.widths()[place]
    return table


def _rendered(table: Table) -> RichTable:
    rich = RichTable(box=None, header_style="dim", pad_edge=False, padding=(0, GAP, 0, 0))
    for place, header in enumerate(table.columns):
        is_last = place == len(table.columns) - 1
        rich.add_column(
            Text(header),
            justify="left" if place < table.text_columns else "right",
            no_wrap=not (table.wraps and is_last),
            vertical="top" if table.wraps else "bottom",
            overflow="fold",
        )
    for row in table.rows:
        rich.add_row(*map(Text, row))
    return rich

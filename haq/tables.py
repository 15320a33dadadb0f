"""Tables of text, and their Markdown."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len


@dataclass(frozen=True, slots=True)
class Table:
    """Table of text cells.

    Attributes:
        columns: Headers, which may have several lines.
        rows: Cells of each row.
        text_columns: Number of leading columns that hold names; the others hold numbers.
        wraps: Whether the last column holds sentences, which are wrapped instead of shortened.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int = 1
    wraps: bool = False

    def widths(self) -> list[int]:
        """Return the number of characters that each column takes."""
        return [
            max(map(cell_len, (*header.split("\n"), *(row[place] for row in self.rows))))
            for place, header in enumerate(self.columns)
        ]

    def select_columns(self, places: Sequence[int]) -> "Table":
        """Select columns.

        Args:
            places: Positions of the columns to keep.

        Returns:
            The table with these columns, in the given order.
        """
        rows = tuple(tuple(row[place] for place in places) for row in self.rows)
        return replace(self, columns=tuple(self.columns[place] for place in places), rows=rows)


Block = str | Table
"""Paragraph or table."""


def markdown(blocks: Iterable[Block]) -> str:
    r"""Format paragraphs and tables as Markdown, separated by empty lines.

    Args:
        blocks: Paragraphs and tables.

    Returns:
        The Markdown text.

    Examples:
        >>> print(markdown(["Costs.", Table(("device", "of\n8 bits"), (("bismo-edge", "60 %"),))]), end="")
        Costs.
        <BLANKLINE>
        | device | of 8 bits |
        | --- | --- |
        | bismo-edge | 60 % |
    """
    texts = (block if isinstance(block, str) else "\n".join(_rows(block)) for block in blocks)
    return "\n\n".join(texts) + "\n"


def _rows(table: Table) -> Iterator[str]:
    columns = [header.replace("\n", " ") for header in table.columns]
    for row in (columns, ["---"] * len(columns), *table.rows):
        yield f"| {' | '.join(row)} |"

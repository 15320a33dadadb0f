"""Tables of text, and documents of paragraphs and tables as Markdown."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text: the first `text_columns` hold names, the others numbers. A header may have several lines.

    With `wraps` the last column holds sentences, which are wrapped and not shortened.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int = 1
    wraps: bool = False

    def widths(self) -> list[int]:
        """Characters that each column takes."""
        return [
            max(map(cell_len, (*header.split("\n"), *(row[place] for row in self.rows))))
            for place, header in enumerate(self.columns)
        ]

    def part(self, places: Sequence[int]) -> "Table":
        """Some of the columns, in their order."""
        rows = tuple(tuple(row[place] for place in places) for row in self.rows)
        return replace(self, columns=tuple(self.columns[place] for place in places), rows=rows)


Block = str | Table
"""A paragraph or a table."""


def markdown(blocks: Iterable[Block]) -> str:
    """Paragraphs and tables with an empty line between them.

    >>> print(markdown(["Costs.", Table(("device", "of\\n8 bits"), (("bismo-edge", "60 %"),))]), end="")
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

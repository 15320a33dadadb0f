"""HTML of values in notebooks: `_repr_html_` of policies, problems and results; every text in it is escaped."""

from collections.abc import Iterable, Iterator
from html import escape

from haq.tables import Block, Table

OPEN_ROWS = 30
"""Longest table that is shown at once; longer ones are folded."""


def notebook_html(title: str, blocks: Iterable[Block]) -> str:
    """Format paragraphs and tables as HTML for a notebook, which brings its own style.

    Args:
        title: First line, in bold.
        blocks: Paragraphs and tables.

    Returns:
        The HTML.

    Examples:
        >>> notebook_html("a < b", ["no & none"])
        '<div><b>a &lt; b</b><p>no &amp; none</p></div>'
    """
    parts = (f"<p>{escape(block)}</p>" if isinstance(block, str) else "".join(_table(block)) for block in blocks)
    return f"<div><b>{escape(title)}</b>{''.join(parts)}</div>"


def _table(table: Table) -> Iterator[str]:
    is_long = len(table.rows) > OPEN_ROWS
    if is_long:
        yield f"<details><summary>{len(table.rows)} rows</summary>"
    yield "<table><thead>"
    yield _row([header.replace("\n", " ") for header in table.columns], "th", table)
    yield "</thead><tbody>"
    yield from (_row(row, "td", table) for row in table.rows)
    yield "</tbody></table>"
    if is_long:
        yield "</details>"


def _row(cells: Iterable[str], tag: str, table: Table) -> str:
    """Format a row: names on the left, numbers on the right."""
    texts = []
    for place, cell in enumerate(cells):
        side = "left" if place < table.text_columns else "right"
        texts.append(f'<{tag} style="text-align: {side}">{escape(cell)}</{tag}>')
    return f"<tr>{''.join(texts)}</tr>"

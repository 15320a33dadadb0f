"""Output of `haq compare` and `haq pareto`: tables, numbers and a figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from haq.cli.output import print_blocks, print_json, print_text
from haq.files import write_atomically
from haq.tables import Block, markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def finish_study(
    stem: Path, document: dict[str, Any], *, blocks: Sequence[Block], csv: str, figure: "Figure", json: bool
) -> None:
    """Write the files of a study and print its tables.

    Args:
        stem: Path of the files without their endings .md, .csv and .png.
        document: The study as JSON values.
        blocks: Paragraphs and tables for people.
        csv: All numbers as a table.
        figure: The figure.
        json: Print the document instead of the tables.

    Raises:
        OSError: A table cannot be written.
        UserError: The figure cannot be written.
    """
    from haq.reporting.plots import save_figure  # matplotlib takes longer to import than all the rest

    write_atomically(stem.with_suffix(".md"), markdown(blocks).encode())
    write_atomically(stem.with_suffix(".csv"), csv.encode())
    save_figure(figure, stem.with_suffix(".png"))
    if json:
        print_json(document)
        return
    print_blocks(blocks)
    print_text(f"files in {stem.parent}")

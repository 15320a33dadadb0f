"""Output of commands: JSON or tables on standard output, everything else on standard error."""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from haq.cli.screen import literal, write_table, write_text
from haq.experiment.result_tables import learned_table
from haq.finetuning.journal import Summary as FinetuneSummary
from haq.formatting import format_cost
from haq.reconstruction.records import Summary as ReconstructionSummary
from haq.tables import Block, Table
from haq.tasks.metrics import metric_of
from hardware_sim.cost import Objective


def print_json(document: Any) -> None:
    """Print a JSON document on standard output.

    Args:
        document: JSON values.

    Raises:
        ValueError: A number is infinite or NaN.
    """
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: int = 1, wraps: bool = False
) -> None:
    """Print a table on standard output.

    Args:
        title: Line above the table; none if empty.
        columns: Headers, which may have several lines.
        rows: Cells of each row.
        text_columns: Number of leading columns that hold names; the others hold numbers.
        wraps: Whether the last column holds sentences, which are wrapped instead of shortened.
    """
    table = Table(tuple(columns), tuple(map(tuple, rows)), text_columns, wraps)
    write_table(title, table, sys.stdout)


def print_text(text: str) -> None:
    """Print a line on standard output, wrapped between words on a terminal.

    Args:
        text: The line.
    """
    write_text(text, sys.stdout)


def print_blocks(blocks: Iterable[Block]) -> None:
    """Print paragraphs and tables on standard output, separated by empty lines.

    Args:
        blocks: Paragraphs, whose Markdown marks of code are left out, and tables.
    """
    for number, block in enumerate(blocks):
        if number:
            print_text("")
        if isinstance(block, str):
            print_text(block.replace("`", ""))
        else:
            write_table("", block, sys.stdout)


def print_learned(summary: FinetuneSummary | ReconstructionSummary, learned: str, *, title: str) -> None:
    """Print the scores of the float network, and of the quantized one before and after training.

    Args:
        summary: Summary of a fine-tuning or reconstruction.
        learned: Name of the trained network in the table.
        title: Title of the table, after the metric.
    """
    table = learned_table(summary, learned)
    print_table(f"{metric_of(summary.metric).name}, {title}", table.columns, table.rows)


def say(text: str) -> None:
    """Print a line on standard error, wrapped between words on a terminal.

    Args:
        text: The line.
    """
    write_text(text, sys.stderr)


def say_command(text: str, command: str) -> None:
    """Print a line on standard error that ends in a command, without wrapping, so that it can be copied.

    Args:
        text: Text before the command.
        command: The command, quoted for a shell.
    """
    sys.stderr.write(f"{literal(text)} {command}\n")


def warn(text: str) -> None:
    """Print a prominent warning on standard error.

    Args:
        text: The warning.
    """
    bar = "!" * 72
    for line in (bar, f"WARNING: {text}", bar):
        say(line)


def cost_text(objective: Objective, value: float | None) -> str:
    """Format a cost with its unit.

    Args:
        objective: Name of the cost.
        value: Cost in SI units; None if the device does not model it.

    Returns:
        The cost, or a dash.
    """
    return "-" if value is None else format_cost(objective, value)


def count_text(count: int) -> str:
    """Format a large count.

    Args:
        count: The count.

    Returns:
        The count in thousands, millions or billions, with one digit after the point.

    Examples:
        >>> count_text(300_774_272), count_text(999)
        ('300.8 M', '999')
    """
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.1f} {letter}"
    return str(count)


def draw_figures(path: Path) -> None:
    """Draw the figures that a finished run lacks.

    Args:
        path: Folder of the run.
    """
    from haq.reporting.plots import draw_missing  # matplotlib takes longer to import than all the rest

    draw_missing(path)

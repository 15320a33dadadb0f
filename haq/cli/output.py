"""What commands print: JSON or tables on standard output, everything else on standard error."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from haq.pretty import percent, pretty_cost
from hardware_sim.cost import Objective


def print_json(document: Any) -> None:
    """Exactly one JSON document on standard output."""
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: int = 1) -> None:
    """A table on standard output; columns after the first `text_columns` are aligned as numbers."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, header_style="dim", pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < text_columns else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    # A pipe has no width of its own: nothing is cut there.
    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=400)
    console.print(table)


def print_learned(summary: Mapping[str, Any], learned: str, *, title: str) -> None:
    """Accuracies of the float network, of the quantized one before learning, and of what it became."""
    rows = [
        ("float", percent(summary["search_accuracy_fp32"], digits=2), percent(summary["accuracy_fp32"], digits=2)),
        ("quantized, before learning", percent(summary["search_accuracy_start"], digits=2), "-"),
        (learned, percent(summary["search_accuracy"], digits=2), percent(summary["accuracy"], digits=2)),
    ]
    columns = ("network", f"{summary['search_images']} search images", f"{summary['report_images']} report images")
    print_table(f"{summary['metric']['name']}, {title}", columns, rows)


def say(text: str) -> None:
    """A line on standard error."""
    sys.stderr.write(text + "\n")


def warn(text: str) -> None:
    """A warning that cannot be missed, on standard error."""
    bar = "!" * 72
    say(f"{bar}\nWARNING: {text}\n{bar}")


def cost_text(objective: Objective, value: float | None) -> str:
    """A cost with its unit; a dash for what the device does not model."""
    return "-" if value is None else pretty_cost(objective, value)


def count_text(count: int) -> str:
    """A large number of things.

    >>> count_text(300_774_272), count_text(999)
    ('300.8 M', '999')
    """
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.1f} {letter}"
    return str(count)

"""File and table of the results of `compare.py`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from haq.files import write_atomically

QUANTIZERS = {"mct": "mct's", "modelopt": "modelopt's", "haq": "haq's, as is", "haq corrected": "haq's, corrected"}
"""Labels in the table, by name in `Row.accuracy`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Bits, the tool that chose them, and their accuracy."""

    chosen_by: str
    variant: str
    """Widths that a tool chose from, haq's corrections, or the uniform bits."""
    training: str
    budget: float | None = None
    """Average bits per weight."""
    seed: int | None = None
    evaluations: int | None = None
    w_bits: tuple[int, ...] = ()
    average_bits: float = 0.0
    accuracy: Mapping[str, float] = field(default_factory=dict)
    """By quantizer, on the report split; `search` is the estimate of the search, `float` that of the float network."""
    divergence: Mapping[str, float] = field(default_factory=dict)
    """By quantizer of haq: mean KL divergence from the float network's outputs, in nats."""
    cpu_s: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "w_bits", tuple(self.w_bits))  # JSON has no tuples


def same_answer(one: Row, other: Row) -> bool:
    """Return whether two rows answer the same question.

    >>> ask = Row(chosen_by="mct", variant="2 to 8", training="s0", budget=3.0)
    >>> same_answer(ask, Row(chosen_by="mct", variant="2 to 8", training="s0", budget=3.0, w_bits=(3, 3)))
    True
    """
    names = ("chosen_by", "variant", "training", "budget", "seed", "evaluations")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def read_rows(path: Path) -> tuple[list[str], list[Row]]:
    """Return the commands that made a file, and its rows; both empty where there is no file."""
    if not path.exists():
        return [], []
    document = json.loads(path.read_text(encoding="utf-8"))
    return document["about"]["commands"], [Row(**row) for row in document["rows"]]


def write_rows(path: Path, about: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Write all rows, one per line, after what applies to all of them."""
    lines = ",\n".join(json.dumps(asdict(row)) for row in rows)
    head = json.dumps(about)
    write_atomically(path, f'{{"about": {head},\n"rows": [\n{lines}\n]}}\n'.encode())


def groups(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Yield rows that differ only in training and seed: uniform bits first, then by falling budget."""

    def question(row: Row) -> tuple[Any, ...]:
        return (row.chosen_by, row.variant, row.budget, row.evaluations)

    def place(row: Row) -> tuple[Any, ...]:
        return (row.budget is not None, -(row.budget or float(row.variant)), row.chosen_by, row.evaluations or 0)

    ordered = sorted(rows, key=place)
    for key in dict.fromkeys(question(row) for row in ordered):
        yield [row for row in ordered if question(row) == key]


def cell(values: Sequence[float]) -> str:
    """Format mean and standard deviation.

    >>> cell([98.0, 99.0]), cell([3.0]), cell([])
    ('98.50 ± 0.71', '3.00', '-')
    """
    if not values:
        return "-"
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def by_training(group: Sequence[Row], values: Sequence[float | None]) -> list[float]:
    """Return the mean value of every training; trainings without values are left out.

    >>> rows = [Row(chosen_by="haq", variant="corrections", training=name) for name in ("s0", "s0", "s1", "s2")]
    >>> by_training(rows, [1.0, 2.0, 3.0, None])
    [1.5, 3.0]
    """
    found: dict[str, list[float]] = {}
    for row, value in zip(group, values, strict=True):
        if value is not None:
            found.setdefault(row.training, []).append(value)
    return [mean(each) for each in found.values()]


def table_line(group: Sequence[Row]) -> str:
    """Return one line of the table: means over trainings, each the mean over its seeds."""
    first = group[0]
    how = first.variant + (f", {first.evaluations} evaluations" if first.evaluations else "")
    spent = by_training(group, [row.cpu_s for row in group])
    scores = [by_training(group, [row.accuracy.get(name) for row in group]) for name in QUANTIZERS]
    divergences = by_training(group, [row.divergence.get("haq corrected") for row in group])
    cells = [
        "-" if first.budget is None else f"{first.budget:g}",
        first.chosen_by,
        how,
        f"{mean(row.average_bits for row in group):.2f}",
        *(cell([100 * score for score in each]) for each in scores),
        f"{mean(divergences):.4f}" if divergences else "-",
        f"{mean(spent):.0f}" if spent else "-",
        f"{len({row.training for row in group})} / {len(group)}",
    ]
    return f"| {' | '.join(cells)} |"


def write_table(path: Path, about: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Write the whole table as Markdown."""
    floats = {row.training: 100 * row.accuracy["float"] for row in rows}
    images = about["images"]
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    commands = " and ".join(f"`{command}`" for command in about["commands"])
    columns = (
        "budget",
        "chosen by",
        "how",
        "average bits",
        *QUANTIZERS.values(),
        "its KL",
        "CPU-s",
        "trainings / answers",
    )
    lines = [
        f"# Bits chosen by other tools and by haq: {about['network']}\n",
        f"{len(about['layers'])} layers, {about['weights']:,} weights, 8-bit activations. Accuracy in percent on "
        f"{images['report']:,} report images, mean ± standard deviation over trainings; in float "
        f"{cell(list(floats.values()))} ({len(floats)} trainings). Calibration on {images['calibration']} images; haq "
        f"also searches on {images['search']} and names the winner on {images['selection']} more. CPU-seconds are from "
        "the trained network to the answer. `its KL` is the mean KL divergence, in nats, from the float network's "
        "outputs on the report images, under haq's quantizer with corrections.\n",
        f"| {' | '.join(columns)} |",
        "|---" * len(columns) + "|",
        *(table_line(group) for group in groups(rows)),
        f"\nMade with {commands} on {about['processor']}, {about['threads']} thread(s); {versions}.\n",
    ]
    write_atomically(path, "\n".join(lines).encode())

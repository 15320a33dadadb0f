"""`haq hardware measure`: tables of latencies on this processor, and of instructions on a microcontroller."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from haq.cli.output import print_json, print_table, print_text
from haq.cli.progress import shown_progress
from haq.config import SearchConfig
from haq.costs.measured_table import device_file
from haq.costs.measuring import CAVEAT, Row, Setup, measure_layers
from haq.errors import UserError
from haq.experiment.loading import example_input, load_traced
from haq.exporters.c.measurement.instructions import count_instructions
from haq.exporters.c.measurement.table import CAVEATS, InstructionRow, InstructionSetup, measure_instructions
from haq.exporters.c.toolchain import MCU_TOOLS, CortexM7, compiler_version
from haq.exporters.c.toolchain.tools import find_tool
from haq.formatting import format_count, format_seconds

MeasuredTarget = Literal["processor", "mcu-c"]
SHOWN_PAIRS = ((8, 8), (4, 8), (4, 4), (2, 2))


def measure_processor(config: SearchConfig, out: Path, *, threads: int, repeats: int, json: bool, quiet: bool) -> None:
    """Time the layers of a network on this processor, and print the table.

    Args:
        config: Network and batch.
        out: Table to write.
        threads: Threads of the runtime.
        repeats: Timed runs of each layer.
        json: Whether to print a document instead of a table.
        quiet: Whether to show no progress.
    """
    shape = tuple(example_input(config).shape[1:])
    setup = Setup(model=config.model, input_shape=shape, batch=config.batch or 1, threads=threads, repeats=repeats)
    with shown_progress(quiet=quiet) as watcher:
        rows = measure_layers(load_traced(config).layers, out, setup=setup, watcher=watcher)
    if json:
        layers = [{"name": row.layer, "bits": row.bits, **row.timing._asdict()} for row in rows]
        facts = {"model": setup.model, "batch": setup.batch, "setup": setup.description}
        print_json(_document(out, facts, layers=layers, notes=[CAVEAT]))
    else:
        _print_times(rows, setup)
        _print_notes(out, [CAVEAT])


def measure_microcontroller(config: SearchConfig, out: Path, *, clock_hz: float, json: bool, quiet: bool) -> None:
    """Count the instructions of the layers of a network on an emulated Cortex-M7, and print the table.

    Args:
        config: Network.
        out: Table to write.
        clock_hz: Clock at which instructions are given as time.
        json: Whether to print a document instead of a table.
        quiet: Whether to show no progress.

    Raises:
        UserError: A batch is asked for, a tool is missing, or the table cannot be written.
    """
    if config.batch not in (None, 1):
        raise UserError(f"--batch {config.batch}: --target mcu-c processes one image at a time")
    for tool in MCU_TOOLS:
        find_tool(tool)
    shape = tuple(example_input(config).shape[1:])
    setup = InstructionSetup(model=config.model, input_shape=shape, compiler=compiler_version(), clock_hz=clock_hz)
    with shown_progress(quiet=quiet) as watcher:
        count = partial(count_instructions, core=CortexM7())
        rows = measure_instructions(load_traced(config).layers, out, setup=setup, count=count, watcher=watcher)
    if json:
        facts = {"model": setup.model, "clock_hz": clock_hz, "setup": setup.description}
        print_json(_document(out, facts, layers=[row._asdict() for row in rows], notes=CAVEATS))
    else:
        _print_instructions(rows, setup)
        _print_notes(out, CAVEATS)


def _document(
    out: Path, facts: Mapping[str, object], *, layers: Sequence[Mapping[str, object]], notes: Sequence[str]
) -> dict[str, Any]:
    return {"table": str(out), "device": str(device_file(out)), **facts, "layers": layers, "notes": list(notes)}


def _print_times(rows: Sequence[Row], setup: Setup) -> None:
    pairs = list(zip(rows[::2], rows[1::2], strict=True))
    cells = [(a.layer, _seconds(a), _seconds(b), f"{a.timing.latency_s / b.timing.latency_s:.2f}") for a, b in pairs]
    totals = [sum(row.timing.latency_s for row in part) for part in zip(*pairs, strict=True)]
    cells.append(("all layers", format_seconds(totals[0]), format_seconds(totals[1]), f"{totals[0] / totals[1]:.2f}"))
    print_text(setup.description)
    print_table("a batch", ("layer", "float32", "int8", "float32 / int8"), cells)


def _print_instructions(rows: Sequence[InstructionRow], setup: InstructionSetup) -> None:
    counts = {row[:3]: row.instructions for row in rows}
    names = list(dict.fromkeys(row.layer for row in rows))
    cells = [(name, *(format_count(counts[name, *pair]) for pair in SHOWN_PAIRS)) for name in names]
    totals = [sum(counts[name, *pair] for name in names) for pair in SHOWN_PAIRS]
    cells.append(("all layers", *map(format_count, totals)))
    print_text(setup.description)
    heads = [f"{w_bits}/{a_bits}" for w_bits, a_bits in SHOWN_PAIRS]
    print_table("instructions of an image, by bits of weights/inputs", ("layer", *heads), cells)


def _print_notes(out: Path, notes: Sequence[str]) -> None:
    for note in notes:
        print_text(f"note: {note}")
    print_text(f"written {out} and {device_file(out)}; price a network with --hardware {device_file(out)}")


def _seconds(row: Row) -> str:
    return format_seconds(row.timing.latency_s)

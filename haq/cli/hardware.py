"""`haq hardware`: list, show, validate and measure devices."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from haq.cli.flags import MODEL_FLAGS, JsonFlag, QuietFlag, with_config
from haq.cli.help import GroupedCommand
from haq.cli.measurements import MeasuredTarget, measure_microcontroller, measure_processor
from haq.cli.output import print_json, print_table, print_text
from haq.cli.targets import print_target, print_targets
from haq.config import SearchConfig
from haq.errors import UserError
from haq.exporters.c.measurement.table import CLOCK_HZ
from haq.formatting import format_count
from hardware_sim.accelerator import Accelerator
from hardware_sim.catalog import device_names, load_accelerator
from hardware_sim.cost import Bits, UnsupportedError
from hardware_sim.target_catalog import load_target

app = typer.Typer(
    help="List, show, validate or measure accelerators.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
)

THREADS, REPEATS = 1, 30
PROSE = ("name", "description", "kind", "sources", "validation")
SHOWN_WIDTHS: tuple[Bits, ...] = (8, 4, 2, None)
UNSURE = re.compile(r"\b(memory|estimated?|assumed)\b", re.IGNORECASE)
"""Words in a source that mark a number as neither published nor measured."""


@app.callback()
def hardware(context: typer.Context, json: JsonFlag = False) -> None:
    """List, show, validate or measure accelerators.

    Without a command, lists them.
    """
    if context.invoked_subcommand is None:
        list_devices(json=json)


@app.command("list", cls=GroupedCommand)
def list_devices(json: JsonFlag = False) -> None:
    """List the devices that haq comes with."""
    devices = [load_accelerator(name).model_dump(mode="json") for name in device_names()]
    keys = ("name", "kind", "batch", "description")
    if json:
        print_json([{key: device[key] for key in keys} for device in devices])
        return
    rows = [tuple(str(device[key]) for key in keys) for device in devices]
    print_table(f"{len(devices)} devices", ("device", "kind", "batch", "description"), rows, text_columns=4, wraps=True)


@app.command(cls=GroupedCommand)
def show(
    name: Annotated[str, typer.Argument(help="Name of a device, or a .toml or .csv file.")], json: JsonFlag = False
) -> None:
    """Show a device: parameters, sources and peak performance."""
    device = load_accelerator(name)
    if json:
        print_json(device_document(device))
    else:
        _print_device(device)


@app.command(cls=GroupedCommand)
def validate(
    file: Annotated[Path, typer.Argument(help="A .toml device file or a .csv table of costs.")], json: JsonFlag = False
) -> None:
    """Check a device file.

    Exits with 2 if something is missing, unknown or of the wrong unit.
    """
    device = load_accelerator(file)
    values = device.model_dump(mode="json")
    unsourced = [
        key
        for key in device.model_fields_set - device.sources.keys()
        if key not in (*PROSE, "batch") and not isinstance(values[key], str | bool)
    ]
    if json:
        print_json({"file": str(file), "unsourced": sorted(unsourced), "device": device_document(device)})
        return
    print_text(f"{file} is a valid device; this is what it says")
    _print_device(device)
    if unsourced:
        print_text(f"without a source: {', '.join(sorted(unsourced))}")


@app.command(cls=GroupedCommand)
@with_config(*MODEL_FLAGS, "data", "batch")
def measure(
    config: SearchConfig,
    out: Annotated[Path, typer.Option(help="Table to write, a .csv file in an existing folder.")],
    target: Annotated[
        MeasuredTarget,
        typer.Option(help="This processor, or the kernels of `haq export --format c` on an emulated Cortex-M7."),
    ] = "processor",
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, max=1024, help="processor: threads of the runtime.", metavar="N", show_default=str(THREADS)
        ),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(
            min=3,
            max=100_000,
            help="processor: runs of each layer; the median counts.",
            metavar="N",
            show_default=str(REPEATS),
        ),
    ] = None,
    clock: Annotated[
        float | None,
        typer.Option(
            min=1e3, max=1e11, help="mcu-c: clock of the Cortex-M7 in Hz.", metavar="HZ", show_default=f"{CLOCK_HZ:g}"
        ),
    ] = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Measure layers on this processor or a microcontroller.

    Times them on the processor, or counts their instructions on an emulated core. Writes a table of latencies, in
    float32 and int8 or for each pair of 2 to 8 bits, and a device file that can be given as --hardware.
    """
    for flag, owner, value in (
        ("--threads", "processor", threads),
        ("--repeats", "processor", repeats),
        ("--clock", "mcu-c", clock),
    ):
        if value is not None and owner != target:
            raise UserError(f"{flag} is an option of --target {owner}; leave it out for --target {target}")
    if target == "mcu-c":
        measure_microcontroller(config, out, clock_hz=clock or CLOCK_HZ, json=json, quiet=quiet)
    else:
        threads, repeats = threads or THREADS, repeats or REPEATS
        measure_processor(config, out, threads=threads, repeats=repeats, json=json, quiet=quiet)


@app.command(cls=GroupedCommand)
def targets(
    name: Annotated[
        str | None, typer.Argument(help="Name of a target, or a .toml file; all targets are listed if not given.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """List deployment targets, or show the rules of one.

    --deploy takes a target; the rules of a .toml file are checked.
    """
    if name is None:
        print_targets(json=json)
    else:
        print_target(load_target(name), json=json)


def device_document(device: Accelerator) -> dict[str, Any]:
    """Convert a device to JSON values.

    Args:
        device: The device.

    Returns:
        Its parameters, notes, and `peak_macs_per_s` and `ridge_point_macs_per_byte` by the width of both operands.
    """
    peaks = {_width(bits): device.peak_macs_per_s(bits, bits) for bits in SHOWN_WIDTHS}
    ridges = {_width(bits): device.ridge_point(bits, bits) for bits in SHOWN_WIDTHS}
    return {
        **device.model_dump(mode="json"),
        "peak_macs_per_s": peaks,
        "bytes_per_s": device.bytes_per_s,
        "ridge_point_macs_per_byte": ridges,
        "uncertain": _uncertain(device),
        "notes": _notes(device),
    }


def _print_device(device: Accelerator) -> None:
    values, uncertain = device.model_dump(mode="json"), _uncertain(device)
    print_text(f"{device.name} ({values['kind']}): {device.description}")
    print_text("")
    rows = [
        (f"{name}{' *' if key in uncertain else ''}", text)
        for key, value in values.items()
        if key not in PROSE and value is not None
        for name, text in _flat(key, value)
    ]
    print_table("parameters", ("key", "value"), rows, text_columns=2, wraps=True)
    if uncertain:
        print_text("* estimated, assumed or from memory")
    _print_peaks(device)
    for heading, lines in (
        ("sources", [f"{key}: {source}" for key, source in device.sources.items()]),
        ("validated against", device.validation),
        ("mind that", _notes(device)),
    ):
        if lines:
            for line in ("", heading, *(f"- {line}" for line in lines)):
                print_text(line)


def _print_peaks(device: Accelerator) -> None:
    rows = [
        (_width(bits), format_count(peak), "-" if ridge is None else f"{ridge:.3g}")
        for bits in SHOWN_WIDTHS
        if (peak := device.peak_macs_per_s(bits, bits)) is not None
        for ridge in [device.ridge_point(bits, bits)]
    ]
    memory = "not modelled" if device.bytes_per_s is None else f"{device.bytes_per_s / 1e9:.4g} GB/s"
    if rows:
        print_text("")
        print_table(f"roofs, memory {memory}", ("bits", "peak MAC/s", "ridge point, MAC/byte"), rows)


def _flat(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """List the numbers under a key, named as in a device file."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _flat(f"{key}.{name}", part)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for index, part in enumerate(value):
            yield f"{key}[{index}]", ", ".join(f"{name} {_text(number)}" for name, number in part.items())
    else:
        yield key, _text(value)


def _text(value: Any) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:.10g}" if is_number else str(value).lower() if isinstance(value, bool) else str(value)


def _uncertain(device: Accelerator) -> list[str]:
    """List the keys whose source marks the number as neither published nor measured."""
    return sorted(key for key, source in device.sources.items() if UNSURE.search(source))


def _notes(device: Accelerator) -> list[str]:
    """Return the notes of the cost model that do not depend on the network."""
    try:
        return list(device.table(()).notes)
    except UnsupportedError:  # a table without names takes its own network only
        return []


def _width(bits: Bits) -> str:
    return "float" if bits is None else str(bits)

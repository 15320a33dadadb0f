"""`haq export`: files of a policy for other tools, verified before they are written."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from haq.cli.flags import DATA_FLAGS, DEVICE_FLAGS, MODEL_FLAGS, QUANTIZER_FLAGS, JsonFlag, QuietFlag, with_config
from haq.cli.output import print_json, print_table, print_text, say, warn
from haq.cli.progress import shown_progress
from haq.config import SearchConfig
from haq.experiment.artifact import load_artifact
from haq.exporters.export import export_artifact
from haq.exporters.formats import ExportOptions, FormatName, ToolchainName
from haq.exporters.records import ExportRecord, LayerRecord
from haq.formatting import format_cost, percent

ArtifactArgument = Annotated[
    Path,
    typer.Argument(
        help="Folder of a search, reconstruction or fine-tuning, or a policy file with the flags of its search.",
        metavar="ARTIFACT",
    ),
]


@with_config(*MODEL_FLAGS, *DATA_FLAGS, *DEVICE_FLAGS, *QUANTIZER_FLAGS)
def export(
    config: SearchConfig,
    artifact: ArtifactArgument,
    *,
    format_name: Annotated[FormatName, typer.Option("--format", help="Format of the files.")] = "onnx",
    out: Annotated[
        Path | None, typer.Option(help="Main file, in an existing folder.", show_default="MODEL.FORMAT in ARTIFACT")
    ] = None,
    compact: Annotated[
        bool, typer.Option("--compact", help="onnx: store weights in 4 and 2 bits; fewer runtimes read it.")
    ] = False,
    toolchain: Annotated[
        ToolchainName | None, typer.Option("--for", help="qonnx: refuse what this tool cannot take.")
    ] = None,
    lookup_tables: Annotated[
        bool,
        typer.Option(
            "--lookup-tables/--no-lookup-tables",
            help="tflite: store weights as lookup tables where that is smallest; without, LiteRT runs the file too.",
        ),
    ] = True,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Export a policy as files that other tools execute.

    The files are compared with the quantized network before they are written.
    """
    with shown_progress(quiet=quiet or not sys.stderr.isatty()) as watcher:
        record = export_artifact(
            load_artifact(artifact, config, notify=say),
            format_name,
            out=out,
            options=ExportOptions(compact=compact, toolchain=toolchain, lookup_tables=lookup_tables),
            watcher=watcher,
        )
    for warning in record.warnings:
        warn(warning)
    if json:
        print_json(record.model_dump(mode="json"))
    else:
        _print_export(record)


def _print_export(record: ExportRecord) -> None:
    columns = ("layer", "weights", "input", "weight bytes", "stored as", "arithmetic")
    print_table("", columns, map(_row, record.layers))
    reasons = {layer.name: layer.reason for layer in record.layers if not layer.is_integer}
    for line in (*float_lines(reasons, count=len(record.layers)), *record.notes):
        print_text(line)
    if record.outputs is not None:
        same = record.outputs.same_predictions
        agreement = "" if same is None else f"{percent(same)} of predictions agree, "
        print_text(
            f"verified in {record.runtime} on {record.outputs.images} search {record.outputs.items}: {agreement}"
            f"relative output error {record.outputs.noise:.2g}"
        )
    for file in record.files:
        print_text(f"written {file.path}, {format_cost('size', file.bytes)}")


def _row(layer: LayerRecord) -> tuple[str, ...]:
    widths = ("float" if bits is None else str(bits) for bits in (layer.w_bits, layer.a_bits))
    arithmetic = "integer" if layer.is_integer else "float"
    return (layer.name, *widths, f"{layer.weight_bytes:,}", layer.storage, arithmetic)


def float_lines(reasons: Mapping[str, str], *, count: int) -> Iterator[str]:
    """List the layers that are computed in float, with a line for every reason.

    Args:
        reasons: Reason by name of the layer.
        count: Number of all layers.

    Returns:
        Iterator over the lines.

    Examples:
        >>> list(float_lines({"a": "too wide", "c": "too wide"}, count=3))
        ['in float: a, c (too wide)']
    """
    layers: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        layers.setdefault(reason, []).append(name)
    for reason, names in layers.items():
        yield f"in float: {'all layers' if len(names) == count else ', '.join(names)} ({reason})"

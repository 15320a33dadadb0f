"""`haq verify`: a policy in the runtimes of this machine, compared with an exact integer reference."""

import sys
from typing import Annotated

import typer

from haq.cli.export import ArtifactArgument, float_lines
from haq.cli.flags import (
    DATA_FLAGS,
    DEVICE_FLAGS,
    MODEL_FLAGS,
    QUANTIZER_FLAGS,
    JsonFlag,
    QuietFlag,
    read_several,
    with_config,
)
from haq.cli.output import print_json, print_table, print_text, say
from haq.cli.progress import shown_progress
from haq.config import SearchConfig
from haq.errors import UserError
from haq.experiment.artifact import load_artifact
from haq.exporters.records import RuntimeRecord, VerificationRecord
from haq.exporters.registry import RUNTIMES
from haq.exporters.verify import verify_artifact
from haq.formatting import format_cost, percent
from haq.tasks.metrics import metric_of


@with_config(*MODEL_FLAGS, *DATA_FLAGS, *DEVICE_FLAGS, *QUANTIZER_FLAGS)
def verify(
    config: SearchConfig,
    artifact: ArtifactArgument,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Runtimes, separated by commas; repeatable: {', '.join(RUNTIMES)}.",
            show_default="all",
            metavar="NAMES",
        ),
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=1, help="Report images for each runtime.", show_default="all; fewer in slow ones")
    ] = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Compare a policy in all runtimes with an exact reference.

    From equal input codes, the output codes of every layer are compared with an exact integer reference. Exits with 1
    if a layer that a runtime computes in integers has different codes.
    """
    names = read_several(",".join(runtime or ()))
    if runtime and not names:
        raise UserError(f"--runtime {runtime[0]!r} names no runtime; runtimes are {', '.join(RUNTIMES)}")
    with shown_progress(quiet=quiet or not sys.stderr.isatty()) as watcher:
        record = verify_artifact(load_artifact(artifact, config, notify=say), names, images=images, watcher=watcher)
    if json:
        print_json(record.model_dump(mode="json"))
    else:
        _print_verification(record)
    if any(each.differing for each in record.runtimes):
        raise typer.Exit(1)


def _print_verification(record: VerificationRecord) -> None:
    ran = [each for each in record.runtimes if each.missing is None]
    if ran:
        columns = ("layer", *(each.name for each in ran))
        cells = zip(*map(_cells, ran), strict=True)
        rows = [(layer, *row) for layer, row in zip((*record.layers, "of all codes"), cells, strict=True)]
        print_table("differing output codes, from equal input codes; in brackets: computed in float", columns, rows)
        metric = metric_of(record.metric)
        items = next((each.outputs.items for each in ran if each.outputs), metric.items)
        scores = (items, metric.name, "expected", "same predictions", "output error")
        print_text("")
        print_table(
            "report split", ("runtime", "format", "size", *scores), (_row(each, record) for each in ran), text_columns=2
        )
        for each in ran:
            reasons = {layer.layer: layer.reason for layer in each.layers if not layer.is_integer}
            for line in float_lines(reasons, count=len(record.layers)):
                print_text(f"{each.name}, {line}")
    for each in record.runtimes:
        if each.missing is not None:
            print_text(f"not verified in {each.name}: {each.missing}")


def _cells(runtime: RuntimeRecord) -> list[str]:
    """Return the cells of a runtime's column: differing codes, in brackets where it is in float, and compared ones."""
    counts = [f"{layer.differing:,}" if layer.compared else "-" for layer in runtime.layers]
    cells = [text if layer.is_integer else f"({text})" for text, layer in zip(counts, runtime.layers, strict=True)]
    return [*cells, f"{sum(layer.compared for layer in runtime.layers):,}"]


def _row(runtime: RuntimeRecord, record: VerificationRecord) -> tuple[str, ...]:
    assert runtime.outputs is not None
    assert runtime.file_bytes is not None
    assert runtime.score is not None
    assert runtime.expected_score is not None
    metric, same = metric_of(record.metric), runtime.outputs.same_predictions
    scores = (metric.text(score, digits=2) for score in (runtime.score, runtime.expected_score))
    agreement = "-" if same is None else percent(same, digits=2)
    return (
        runtime.name,
        runtime.format,
        format_cost("size", runtime.file_bytes),
        str(runtime.outputs.images),
        *scores,
        agreement,
        f"{runtime.outputs.noise:.2g}",
    )

"""`haq sensitivity`: the loss caused by quantizing one layer, for each width."""

from typing import Annotated, Literal

import typer

from haq.cli.flags import (
    DATA_FLAGS,
    MODEL_FLAGS,
    QUANTIZER_FLAGS,
    JsonFlag,
    OutFolder,
    QuietFlag,
    ResumeFlag,
    with_config,
)
from haq.cli.folders import default_out, resumable
from haq.cli.output import draw_figures, print_json, print_table, print_text, warn
from haq.cli.progress import shown_progress
from haq.config import SearchConfig
from haq.experiment.prior.measured import PARTS
from haq.sensitivity.measure import Extent, measure_sensitivities
from haq.sensitivity.records import SensitivityDocument

WIDTHS_SHOWN = 3
"""Number of widths in the printed table, from the smallest."""


@with_config(*MODEL_FLAGS, *DATA_FLAGS, "deploy", *QUANTIZER_FLAGS, "min_bits", "max_bits", "seed")
def sensitivity(
    config: SearchConfig,
    images: Annotated[
        int | None,
        typer.Option(min=1, help="Calibration images of a measurement; by default 128, or all if fewer.", metavar="N"),
    ] = None,
    fisher_only: Annotated[bool, typer.Option("--fisher-only", help="Only estimate, with one backward pass.")] = False,
    out: OutFolder = None,
    resume: ResumeFlag = False,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Measure the loss from quantizing each layer alone.

    Weights and inputs of every layer are quantized separately at every width, with everything else in float. The loss
    is measured on calibration images.
    """
    path = out or default_out(config.model, "sensitivity")
    extent = Extent(images, fisher_only)
    with resumable(path, kept="everything so far is"), shown_progress(quiet=quiet) as watcher:
        document = measure_sensitivities(config, path, extent=extent, resume=resume, watcher=watcher)
    draw_figures(path)
    for warning in document.warnings:
        warn(warning)
    if json:
        print_json(document.to_json())
        return
    _print(document, "fisher" if fisher_only else "divergence")
    print_text(f"{document.forward_images + document.fisher_forward_images} images run; files in {path}")


def _print(document: SensitivityDocument, key: Literal["fisher", "divergence"]) -> None:
    widths = sorted({cell.bits for cell in document.cells})[:WIDTHS_SHOWN]
    found = {(cell.layer, cell.part, cell.bits): getattr(cell, key) for cell in document.cells}
    places = [(part, bits) for part in PARTS for bits in widths]
    rows = [
        (layer.name, *(f"{found[layer.name, part, bits]:.2g}" for part, bits in places)) for layer in document.layers
    ]
    said = "expected divergence" if key == "fisher" else "divergence"
    columns = ("layer", *(f"{part}\n{bits} bits" for part, bits in places))
    print_table(f"{said} from the float network's outputs, nats, by bits of one layer alone", columns, rows)

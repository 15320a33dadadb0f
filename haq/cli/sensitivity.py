"""`haq sensitivity`: what each layer loses at each width."""

from pathlib import Path
from typing import Annotated, Any

import typer

from haq.cli.flags import DATA_FLAGS, MODEL_FLAGS, QUANTIZER_FLAGS, JsonFlag, QuietFlag, with_config
from haq.cli.output import draw_figures, print_json, print_table, print_text, warn
from haq.cli.progress import shown_progress
from haq.config import SearchConfig
from haq.runs.run_folder import safe_name
from haq.sensitivity.running import Extent, measure_sensitivities

WIDTHS_SHOWN = 3
"""The narrowest; above them there is little to see."""


@with_config(*MODEL_FLAGS, *DATA_FLAGS, *QUANTIZER_FLAGS, "min_bits", "max_bits", "seed")
def sensitivity(
    config: SearchConfig,
    images: Annotated[
        int, typer.Option(min=1, help="Calibration images that every layer and width is measured on.")
    ] = 128,
    fisher_only: Annotated[
        bool, typer.Option("--fisher-only", help="Estimate all in one backward pass instead of measuring each.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of the results.", show_default="results/...")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what is in --out, if there is any.")] = False,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """What each layer loses at each width, weights and inputs apart and the rest in float, on calibration images."""
    path = out or default_out(config)
    extent = Extent(images, fisher_only)
    with shown_progress(quiet=quiet) as watcher:
        document = measure_sensitivities(config, path, extent=extent, resume=resume, watcher=watcher)
    draw_figures(path)
    for warning in document.get("warnings", ()):
        warn(warning)
    if json:
        print_json(document)
        return
    _print(document, "fisher" if fisher_only else "divergence")
    print_text(f"{document['forward_images'] + document['fisher_forward_images']} images run; files in {path}")


def default_out(config: SearchConfig) -> Path:
    """results/<model>-sensitivity, safe as a file name."""
    text = f"{config.model}-sensitivity"
    return Path("results") / safe_name(text)


def _print(document: dict[str, Any], key: str) -> None:
    widths = sorted({cell["bits"] for cell in document["cells"]})[:WIDTHS_SHOWN]
    found = {(cell["layer"], cell["part"], cell["bits"]): cell[key] for cell in document["cells"]}
    places = [(part, bits) for part in ("weights", "input") for bits in widths]
    rows = [
        (layer["name"], *(f"{found[layer['name'], part, bits]:.2g}" for part, bits in places))
        for layer in document["layers"]
    ]
    said = "expected divergence" if key == "fisher" else "divergence"
    columns = ("layer", *(f"{part}\n{bits} bits" for part, bits in places))
    print_table(f"{said} from the float network's outputs, nats, by bits of one layer alone", columns, rows)

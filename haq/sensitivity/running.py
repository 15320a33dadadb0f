"""Sensitivities as a folder, written cell by cell, so that a kill loses one cell at most."""

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from haq.config import DECIDE_QUANTIZERS, SearchConfig
from haq.errors import UserError
from haq.execution.progress import SILENT, Watcher
from haq.experiment.prior.fisher import network_fisher
from haq.experiment.prior.layer_losses import LayerLosses
from haq.experiment.prior.measured import DOCUMENT, PARTS, Cell, CellResult, Part, Sensitivities, cells
from haq.experiment.problem import Network, prepare_network
from haq.policy import Name, Width
from haq.runs.environment import describe_environment
from haq.runs.journal import Journal
from haq.runs.records import Count, Finite, Record, checked
from haq.runs.run_folder import RunFolder

JOURNAL, TABLE = "cells.jsonl", "sensitivity.csv"
SETTINGS = (*DECIDE_QUANTIZERS, "eval_batch", "engine", "device", "min_bits", "max_bits", "seed")
"""What decides the result."""
COLUMNS = ("layer", "part", "bits", "loss", "accuracy", "divergence", "noise", "fisher")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured."""

    images: int = 128
    """Calibration images that every cell is measured on."""
    fisher_only: bool = False
    """Estimate only, in one backward pass."""


class _Layer(Record):
    name: Name


class _Row(Record):
    layer: Name
    part: Part
    bits: Width
    fisher: Finite


class _MeasuredRow(_Row):
    loss: Finite
    accuracy: Finite
    divergence: Finite
    noise: Finite


class _Estimated(Record):
    layers: Annotated[tuple[_Layer, ...], Field(min_length=1)]
    cells: tuple[_Row, ...]
    forward_images: Count
    fisher_forward_images: Count


class _Measured(_Estimated):
    cells: tuple[_MeasuredRow, ...]


class _Line(Record):
    """A line of the journal."""

    layer: Count
    part: Part
    bits: Width
    loss: float
    accuracy: float
    divergence: float
    noise: float


def measure_sensitivities(
    config: SearchConfig,
    path: Path,
    *,
    extent: Extent = Extent(),
    resume: bool = False,
    watcher: Watcher = SILENT,
) -> Json:
    """Measure every layer at every width from min_bits to max_bits, weights and inputs apart, and keep it in a folder.

    Returns what `sensitivity.json` holds; `sensitivity.csv` has its cells. `fisher` is
    the divergence that `network_fisher` expects. `resume` goes on with what was interrupted. Raises UserError for a
    folder that holds something else, and as `prepare_network` does.
    """
    settings = {name: config.model_dump(mode="json")[name] for name in SETTINGS} | asdict(extent)
    with RunFolder.opened(path, settings, resume=resume) as earlier:
        done = earlier.read_json(DOCUMENT) if earlier else None
        if done is not None:
            _require_whole(done, config, extent, path / DOCUMENT)
            return done
        network = prepare_network(config, progress=watcher.phase)
        watcher.phase("float accuracy")
        measuring = None if extent.fisher_only else _measuring(config, network, extent.images)
        watcher.phase("backward pass")
        fisher = network_fisher(network, loss="divergence", seed=config.seed)
        if earlier is None:
            (path / JOURNAL).unlink(missing_ok=True)
        environment = describe_environment(seed=config.seed, device=config.device)
        run = earlier or RunFolder.create(path, settings, environment, resume=resume)
        document = _document(config, network, fisher)
        document |= _measure(measuring, config, network, folder=run.path, watcher=watcher)
        document = _with_cells(document, fisher, list(range(config.min_bits, config.max_bits + 1)))
        _write(run, document)
    return document


def _write(run: RunFolder, document: Json) -> None:
    """Write table and document; the document comes last."""
    run.write(TABLE, _table(document["cells"]).encode())
    run.write_json(DOCUMENT, document)


def _require_whole(document: Json, config: SearchConfig, extent: Extent, path: Path) -> None:
    """Raise UserError unless a document has every cell once, in order, with its numbers."""
    remedy = "delete it to measure again"
    shape = _Estimated if extent.fisher_only else _Measured
    found = checked(shape, document, path, remedy=remedy)
    wanted = cells(len(found.layers), range(config.min_bits, config.max_bits + 1))
    named = [(found.layers[cell.layer].name, cell.part, cell.bits) for cell in wanted]
    if [(row.layer, row.part, row.bits) for row in found.cells] != named:
        raise UserError(f"{path} is damaged (its cells are not one for every layer, part and width); {remedy}")


def _measuring(config: SearchConfig, network: Network, images: int) -> Sensitivities:
    return Sensitivities(network.engine, network.task, images=images, batch_size=config.eval_batch)


def _measure(
    measuring: Sensitivities | None,
    config: SearchConfig,
    network: Network,
    *,
    folder: Path,
    watcher: Watcher,
) -> Json:
    """What the float network does, what each cell loses, and how many images that took; nothing without `measuring`."""
    if measuring is None:
        return {"images": 0, "loss_fp32": None, "accuracy_fp32": None, "measured": {}, "forward_images": 0}
    layers = len(network.priced.layers)
    wanted = cells(layers, range(config.min_bits, config.max_bits + 1))
    journal = Journal(folder / JOURNAL, _Line)
    found = _measured(journal)
    watcher.begin("measurement", len(wanted))
    try:
        for done, cell in enumerate(wanted, start=1):
            if cell not in found:
                found[cell] = measuring.measure(cell, layers)
                journal.append(_Line(**cell._asdict(), **asdict(found[cell])))
            watcher.step(done)
    finally:
        watcher.end()
    return {
        "images": measuring.images,
        "loss_fp32": measuring.floats.loss,
        "accuracy_fp32": measuring.floats.accuracy,
        "forward_images": measuring.forward_images(len(wanted)),
        "measured": found,
    }


def _document(config: SearchConfig, network: Network, fisher: LayerLosses) -> Json:
    return {
        "model": config.model,
        "data": network.task.name,
        "metric": {"name": network.task.metric.name},
        "fisher_forward_images": fisher.forward_images,
        "warnings": list(fisher.warnings),
        "layers": [{"name": layer.name, "kind": layer.kind} for layer in network.priced.layers],
    }


def _with_cells(document: Json, fisher: LayerLosses, widths: list[int]) -> Json:
    """The document with its cells as rows, whether they were measured or only estimated."""
    names, losses = [layer["name"] for layer in document["layers"]], fisher.losses
    measured: Mapping[Cell, CellResult] = document.pop("measured")
    rows = []
    for cell in cells(len(names), widths):
        loss = measured.get(cell)
        rows.append(
            {
                "layer": names[cell.layer],
                "part": cell.part,
                "bits": cell.bits,
                "loss": loss.loss if loss else None,
                "accuracy": loss.accuracy if loss else None,
                "divergence": loss.divergence if loss else None,
                "noise": loss.noise if loss else None,
                "fisher": float(losses[cell.layer, PARTS.index(cell.part), cell.bits - 1]),
            }
        )
    return document | {"cells": rows}


def _table(rows: list[Json]) -> str:
    text = StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _measured(journal: Journal[_Line]) -> dict[Cell, CellResult]:
    """Return what an interrupted session measured; an unfinished last line is removed."""
    journal.truncate()
    found = {}
    for line in journal.read_all(remedy="delete it to measure again"):
        found[Cell(line.layer, line.part, line.bits)] = CellResult(line.loss, line.accuracy, line.divergence, line.noise)
    return found

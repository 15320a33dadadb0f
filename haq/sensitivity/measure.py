"""Sensitivities of a network's layers, written to a folder cell by cell, so that a kill loses at most one cell."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path

from haq.config import SearchConfig
from haq.errors import UserError
from haq.execution.progress import SILENT, Watcher
from haq.experiment.preparation import prepare_network
from haq.experiment.prior.fisher import network_fisher
from haq.experiment.prior.layer_losses import LayerLosses
from haq.experiment.prior.measured import DOCUMENT, PARTS, Cell, CellResult, Sensitivities, cells
from haq.experiment.problem import Network
from haq.runs.environment import describe_environment
from haq.runs.journal import Journal
from haq.runs.records import Metric, checked
from haq.runs.run_folder import RunFolder
from haq.sensitivity.records import (
    COLUMNS,
    JOURNAL,
    TABLE,
    JournalLine,
    MeasuredDocument,
    Measurements,
    SensitivityDocument,
    SensitivityLayer,
    SensitivityRow,
)
from haq.settings import DECIDE_QUANTIZERS

SETTINGS = (*DECIDE_QUANTIZERS, "eval_batch", "engine", "device", "min_bits", "max_bits", "seed")
"""Settings that the results depend on."""
DEFAULT_IMAGES = 128
"""Calibration images on which every cell is measured by default."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Extent of a measurement.

    Attributes:
        images: Calibration images on which every cell is measured; None for `DEFAULT_IMAGES`, or all if fewer.
        fisher_only: Whether to estimate all cells from one backward pass and measure none.
    """

    images: int | None = None
    fisher_only: bool = False


def measure_sensitivities(
    config: SearchConfig,
    path: Path,
    *,
    extent: Extent = Extent(),
    resume: bool = False,
    watcher: Watcher = SILENT,
) -> SensitivityDocument:
    """Measure the sensitivity of every layer at every width, weights and input separately.

    The folder gets `sensitivity.json` with all results, and `sensitivity.csv` with the cells.

    Args:
        config: Settings; widths are those from `min_bits` to `max_bits`.
        path: Folder of the results.
        extent: Extent of a measurement.
        resume: Whether to continue in a folder that holds results; otherwise it must be empty.
        watcher: Receives the progress.

    Returns:
        The content of `sensitivity.json`.

    Raises:
        UserError: The folder holds something else, or the network cannot be prepared.
    """
    settings = {name: config.model_dump(mode="json")[name] for name in SETTINGS} | asdict(extent)
    with RunFolder.opened(path, settings, resume=resume) as earlier:
        done = earlier.read_json(DOCUMENT) if earlier else None
        if done is not None:
            return _checked(done, config, extent, path / DOCUMENT)
        network = prepare_network(config, is_calibrated=True, progress=watcher.phase)
        watcher.phase("float accuracy")
        measuring = None if extent.fisher_only else _measuring(config, network, extent.images)
        watcher.phase("backward pass")
        fisher = network_fisher(network, loss="divergence", seed=config.seed)
        if earlier is None:
            (path / JOURNAL).unlink(missing_ok=True)
        environment = describe_environment(seed=config.seed, device=config.device)
        run = earlier or RunFolder.create(path, settings, environment, resume=resume)
        wanted = cells(len(network.priced.layers), range(config.min_bits, config.max_bits + 1))
        measured = (
            None if measuring is None else _measure(measuring, network, wanted=wanted, folder=run.path, watcher=watcher)
        )
        document = _document(config, network, wanted, fisher=fisher, measured=measured)
        run.write(TABLE, _table(document.cells).encode())
        run.write_json(DOCUMENT, document.to_json())
    return document


def _checked(document: object, config: SearchConfig, extent: Extent, path: Path) -> SensitivityDocument:
    """Validate a document. Raises UserError unless it has every cell once, in order, with its numbers."""
    remedy = "delete it to measure again"
    shape = SensitivityDocument if extent.fisher_only else MeasuredDocument
    found = checked(shape, document, path, remedy=remedy)
    wanted = cells(len(found.layers), range(config.min_bits, config.max_bits + 1))
    named = [(found.layers[cell.layer].name, cell.part, cell.bits) for cell in wanted]
    if [(row.layer, row.part, row.bits) for row in found.cells] != named:
        raise UserError(f"{path} is damaged (its cells are not one for every layer, part and width); {remedy}")
    return found


def _measuring(config: SearchConfig, network: Network, images: int | None) -> Sensitivities:
    count = images or min(DEFAULT_IMAGES, network.task.size("calibration"))
    return Sensitivities(network.engine, network.task, images=count, batch_size=config.eval_batch)


def _measure(
    measuring: Sensitivities, network: Network, *, wanted: Sequence[Cell], folder: Path, watcher: Watcher
) -> Measurements:
    """Measure the cells that the journal in a folder does not have yet."""
    journal = Journal(folder / JOURNAL, JournalLine)
    found = _measured(journal)
    watcher.begin("measurement", len(wanted))
    try:
        for done, cell in enumerate(wanted, start=1):
            if cell not in found:
                found[cell] = measuring.measure(cell, len(network.priced.layers))
                journal.append(JournalLine(**cell._asdict(), **asdict(found[cell])))
            watcher.step(done)
    finally:
        watcher.end()
    return Measurements(measuring.images, measuring.forward_images(len(wanted)), measuring.floats, found)


def _document(
    config: SearchConfig,
    network: Network,
    wanted: Sequence[Cell],
    *,
    fisher: LayerLosses,
    measured: Measurements | None,
) -> SensitivityDocument:
    layers = network.priced.layers
    results = measured.cells if measured else {}
    return SensitivityDocument(
        model=config.model,
        data=network.task.name,
        metric=Metric(name=network.task.metric.name),
        fisher_forward_images=fisher.forward_images,
        warnings=fisher.warnings,
        layers=tuple(SensitivityLayer(name=layer.name, kind=layer.kind) for layer in layers),
        images=measured.images if measured else 0,
        loss_fp32=measured.floats.loss if measured else None,
        accuracy_fp32=measured.floats.accuracy if measured else None,
        forward_images=measured.forward_images if measured else 0,
        cells=tuple(_row(layers[cell.layer].name, cell, fisher, results.get(cell)) for cell in wanted),
    )


def _row(layer: str, cell: Cell, fisher: LayerLosses, result: CellResult | None) -> SensitivityRow:
    return SensitivityRow(
        layer=layer,
        part=cell.part,
        bits=cell.bits,
        loss=result.loss if result else None,
        accuracy=result.accuracy if result else None,
        divergence=result.divergence if result else None,
        noise=result.noise if result else None,
        fisher=float(fisher.losses[cell.layer, PARTS.index(cell.part), cell.bits - 1]),
    )


def _table(rows: Sequence[SensitivityRow]) -> str:
    """Return the cells as CSV."""
    text = StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.to_json() for row in rows)
    return text.getvalue()


def _measured(journal: Journal[JournalLine]) -> dict[Cell, CellResult]:
    """Read what an interrupted session measured, and remove an unfinished last line."""
    journal.truncate()
    return {line.cell: line.result for line in journal.read(remedy="delete it to measure again")}

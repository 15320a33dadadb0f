"""Files of a folder of sensitivities: the journal of measured cells, and the document of all cells."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from haq.experiment.prior.measured import Cell, CellResult, Part
from haq.layer_bits import Name, Width
from haq.runs.records import Count, Finite, Metric, Record, StoredRecord
from hardware_sim.layer import LayerKind

JOURNAL, TABLE = "cells.jsonl", "sensitivity.csv"
COLUMNS = ("layer", "part", "bits", "loss", "accuracy", "divergence", "noise", "fisher")
"""Columns of the table, and keys of a cell in the document."""


class JournalLine(Record):
    """Line of the journal: one cell and its measured performance."""

    layer: Count
    part: Part
    bits: Width
    loss: float
    accuracy: float
    divergence: float
    noise: float

    @property
    def cell(self) -> Cell:
        """The cell that was measured."""
        return Cell(self.layer, self.part, self.bits)

    @property
    def result(self) -> CellResult:
        """Performance of the network with the cell quantized."""
        return CellResult(self.loss, self.accuracy, self.divergence, self.noise)


class _Stored(StoredRecord):
    """Record that also keeps keys that this version does not know."""

    model_config = ConfigDict(extra="allow")

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        return self.model_dump(mode="json")


class SensitivityLayer(_Stored):
    """Layer of the network."""

    name: Name
    kind: LayerKind | None = None


class SensitivityRow(_Stored):
    """Sensitivity of one part of one layer at one width.

    Attributes:
        layer: Name of the layer.
        part: Weights or input.
        bits: Width.
        loss: Loss of the task with only this part quantized. None, like the next three, if nothing was measured.
        accuracy: Score of the task.
        divergence: KL divergence from the float network's outputs, in nats.
        noise: Relative output error.
        fisher: KL divergence as estimated from the Fisher information, in nats.
    """

    layer: Name
    part: Part
    bits: Width
    loss: Finite | None = None
    accuracy: Finite | None = None
    divergence: Finite | None = None
    noise: Finite | None = None
    fisher: Finite


class SensitivityDocument(_Stored):
    """Content of `sensitivity.json`.

    Attributes:
        model: Name of the network.
        data: Name of the data.
        metric: Name of the score.
        fisher_forward_images: Images that the estimate took.
        warnings: Caveats of the estimate.
        layers: Layers of the network.
        images: Number of images on which cells were measured; 0 if they were only estimated.
        loss_fp32: Loss of the float network on these images.
        accuracy_fp32: Score of the float network on these images.
        forward_images: Images that measuring took.
        cells: Sensitivities by layer, part and width.
    """

    model: str = ""
    data: str = ""
    metric: Metric = Metric(name="accuracy")
    fisher_forward_images: Count
    warnings: tuple[str, ...] = ()
    layers: Annotated[tuple[SensitivityLayer, ...], Field(min_length=1)]
    images: Count = 0
    loss_fp32: Finite | None = None
    accuracy_fp32: Finite | None = None
    forward_images: Count
    cells: tuple[SensitivityRow, ...]


class _MeasuredRow(SensitivityRow):
    loss: Finite
    accuracy: Finite
    divergence: Finite
    noise: Finite


class MeasuredDocument(SensitivityDocument):
    """Content of `sensitivity.json` if every cell was measured."""

    cells: tuple[_MeasuredRow, ...]


@dataclass(frozen=True, slots=True)
class Measurements:
    """Measured sensitivities of all cells.

    Attributes:
        images: Number of images on which each cell was measured.
        forward_images: Images that measuring took.
        floats: Performance of the float network.
        cells: Performance with each cell quantized.
    """

    images: int
    forward_images: int
    floats: CellResult
    cells: dict[Cell, CellResult]

"""Records of exports and verifications: what the commands print under `--json`."""

from dataclasses import asdict

from haq.exporters.agreement import OutputAgreement
from haq.exporters.formats import ExportedLayer
from haq.exporters.protocols import LayerCodes
from haq.runs.records import Amount, Count, Finite, Fraction, Metric, Record


class OutputRecord(Record):
    """Agreement of outputs with those of the quantized network."""

    images: Count
    same_predictions: Fraction | None
    """Fraction of images with the same prediction; None for outputs that are no scores of classes."""
    noise: Amount
    """Relative output error."""
    items: str = "images"
    """What was compared, in messages, such as segments of text."""

    @classmethod
    def of(cls, agreement: OutputAgreement, *, items: str) -> "OutputRecord":
        """Convert a comparison of outputs.

        Args:
            agreement: The comparison.
            items: What was compared, as in `haq.tasks.metrics.Metric`.

        Returns:
            The record.
        """
        same = agreement.predictions
        return cls(images=agreement.items, same_predictions=same, noise=agreement.noise, items=items)


class LayerRecord(Record):
    """One layer in an exported file; see `haq.exporters.formats.ExportedLayer`."""

    name: str
    w_bits: int | None
    a_bits: int | None
    storage: str
    weight_bytes: Count
    is_integer: bool
    reason: str

    @classmethod
    def of(cls, layer: ExportedLayer) -> "LayerRecord":
        """Convert a layer.

        Args:
            layer: The layer.

        Returns:
            The record.
        """
        return cls(**asdict(layer))


class FileRecord(Record):
    """Written file and its size."""

    path: str
    bytes: Count


class ExportRecord(Record):
    """Result of an export."""

    format: str
    files: tuple[FileRecord, ...]
    runtime: str | None
    """Runtime that the files were verified in; None if none is on this machine."""
    outputs: OutputRecord | None
    layers: tuple[LayerRecord, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()


class CodesRecord(Record):
    """Comparison of the output codes of one layer; see `haq.exporters.protocols.LayerCodes`."""

    layer: str
    is_integer: bool
    reason: str
    compared: Count
    differing: Count

    @classmethod
    def of(cls, codes: LayerCodes) -> "CodesRecord":
        """Convert a comparison of codes.

        Args:
            codes: The comparison.

        Returns:
            The record.
        """
        return cls(**asdict(codes))


class RuntimeRecord(Record):
    """Verification in one runtime. If it was not run, `missing` says why, and the rest is empty."""

    name: str
    format: str
    missing: str | None = None
    """What this machine lacks, or why the network cannot be exported in this format."""
    file_bytes: Count | None = None
    """Bytes of the files."""
    score: Finite | None = None
    """Score on the report images; higher is better."""
    expected_score: Finite | None = None
    """Score of the quantized network with the bits of the file, on the same images."""
    outputs: OutputRecord | None = None
    layers: tuple[CodesRecord, ...] = ()

    @property
    def differing(self) -> int:
        """Number of codes that differ in layers which the runtime computes in integers."""
        return sum(layer.differing for layer in self.layers if layer.is_integer)


class VerificationRecord(Record):
    """Result of a verification: runtimes by layers."""

    model: str
    metric: Metric
    layers: tuple[str, ...]
    runtimes: tuple[RuntimeRecord, ...]

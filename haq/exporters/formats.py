"""Export formats: their names, their options and what an export consists of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from haq.exporters.integer.network import IntegerNetwork
from haq.policy import PolicyBits
from hardware_sim.cost import Bits

FormatName = Literal["onnx", "qonnx", "tflite", "packed", "aimet", "c"]
"""Names of the export formats."""
ToolchainName = Literal["finn", "hls4ml"]
"""Tools that take QONNX files and have rules of their own."""
NO_WEIGHTS = "no weights"
"""Storage of layers that multiply two activations."""
STEM = "network"
"""Name of the files of an export, unless another is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """Options of an export.

    Attributes:
        compact: Store weights of up to 4 bits in 4 or 2 bits in ONNX files, which fewer runtimes read.
        toolchain: Tool that the file is for; an export that it cannot take is refused.
        lookup_tables: Store weights of 2 to 7 bits in TFLite files as lookup tables where that is smallest. TensorFlow
            Lite Micro alone decodes them; without them LiteRT runs the files too.
        stem: Name of the files without suffix, for files that name each other and for identifiers.
    """

    compact: bool = False
    toolchain: ToolchainName | None = None
    lookup_tables: bool = True
    stem: str = STEM


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedLayer:
    """One layer in an exported file.

    Attributes:
        name: Name of the layer.
        w_bits: Bits of its weights; None for float.
        a_bits: Bits of its input in the file, which some formats raise to 8; None for float.
        storage: How the weights are stored, such as "int8", "packed 3 bits" or "table of 8 values".
        weight_bytes: Bytes of the stored weights, with lookup tables; scales and biases apart.
        is_integer: Whether runtimes of this format compute the layer in integers.
        reason: Reason for float arithmetic, in one line; empty for integers.
    """

    name: str
    w_bits: Bits
    a_bits: Bits
    storage: str
    weight_bytes: int
    is_integer: bool = True
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Export:
    """Files of an export, not yet written.

    Attributes:
        format: Format of the files.
        files: Content by suffix, such as {".onnx": ...}; the first is the main file.
        bits: (w_bits, a_bits) of every layer in the files: those of the policy, except where the format cannot have
            them.
        layers: Layers in the order of the policy.
        notes: What users should know, each in one line.
        integers: Network that the files compute, where all of it is in integers; None for files with floats between
            layers, which compute what the search evaluates.
        stem: Name of the files without suffix, as in the options.
    """

    format: FormatName
    files: Mapping[str, bytes]
    bits: PolicyBits
    layers: tuple[ExportedLayer, ...]
    notes: tuple[str, ...] = ()
    integers: IntegerNetwork | None = None
    stem: str = STEM

    @property
    def main(self) -> bytes:
        """Content of the main file."""
        return next(iter(self.files.values()))

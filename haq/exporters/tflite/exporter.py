"""Exporter of TFLite files."""

from haq.exporters.deployable import Deployable
from haq.exporters.formats import Export, ExportedLayer, ExportOptions, FormatName
from haq.exporters.integer.lowering import integer_network
from haq.exporters.tflite.products import INPUT_BITS
from haq.exporters.tflite.writing import write_model
from haq.policy import PolicyBits

INPUT_NOTE = "input and output are int8 codes: value = (code - zero point) * scale, with both in the file's tensors"
TABLE_NOTE = (
    "weights in lookup tables need TensorFlow Lite Micro with TFLM_DECODE; LiteRT runs files of --no-lookup-tables"
)
BITS_NOTE = "activations are stored with 8 bits, as the runtimes have no narrower ones"


class TfliteExporter:
    """Exporter of flatbuffers for TensorFlow Lite Micro and LiteRT."""

    format: FormatName = "tflite"
    suffix: str = ".tflite"
    runtimes: tuple[str, ...] = ("tflm", "litert")

    def build(self, network: Deployable, options: ExportOptions) -> Export:
        bits = bits_of_file(network)
        model = write_model(integer_network(network, bits), lookup_tables=options.lookup_tables)
        stored = {layer.name: layer for layer in model.layers}
        layers = tuple(stored[layer.name] for layer in network.policy.layers)
        return Export(
            format=self.format,
            files={self.suffix: model.content},
            bits=bits,
            layers=layers,
            notes=_notes(network, layers),
            integers=model.network,
        )


def bits_of_file(network: Deployable) -> PolicyBits:
    """Return the bits of a policy with 8 bits for all activations.

    Args:
        network: Network with its policy.

    Returns:
        (w_bits, a_bits) of every layer.
    """
    w_bits, a_bits = network.bits
    return w_bits, (INPUT_BITS,) * len(a_bits)


def _notes(network: Deployable, layers: tuple[ExportedLayer, ...]) -> tuple[str, ...]:
    notes = [INPUT_NOTE]
    if network.bits != bits_of_file(network):
        notes.append(BITS_NOTE)
    if any(layer.storage.startswith("table") for layer in layers):
        notes.append(TABLE_NOTE)
    return tuple(notes)

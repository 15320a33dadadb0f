"""Exporter of AIMET encodings beside a float ONNX graph."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx

from haq.errors import UserError
from haq.evaluation.engines.onnxruntime import NotExportableError
from haq.exporters.aimet.encodings import MIN_BITS, Encoding, activation_encoding, version_1, version_2
from haq.exporters.aimet.lowering import FloatLowering
from haq.exporters.deployable import Deployable
from haq.exporters.float_graphs import float_layers
from haq.exporters.formats import Export, ExportOptions, FormatName
from haq.exporters.integer.network import code_bits
from haq.exporters.onnx.graph import describe, remove_metadata
from haq.exporters.onnx.names import input_names, output_names, rename, tensor_names
from haq.quantization.operands import OperandKey

VERSION_1, VERSION_2 = ".encodings", ".v2.encodings"
"""Suffixes of the encodings."""
REASON = "the graph is in float; tools that read its encodings quantize it"


class AimetExporter:
    """Exporter of a float ONNX graph with AIMET encodings of versions 1.0.0 and 2.0.0.

    Attributes:
        format: Name of the format.
        suffix: Suffix of the graph.
        runtimes: Names of the runtimes.
    """

    format: FormatName = "aimet"
    suffix = ".onnx"
    runtimes: tuple[str, ...] = ("encodings",)

    def build(self, network: Deployable, options: ExportOptions) -> Export:  # noqa: ARG002
        try:
            encoded = encode(network)
        except NotExportableError as error:
            raise UserError(
                f"--format aimet: {error.reason}; use --format packed, which holds the weights alone"
            ) from error
        return Export(
            format=self.format,
            files={
                self.suffix: encoded.model.SerializeToString(deterministic=True),
                VERSION_1: version_1(encoded.weights, encoded.activations),
                VERSION_2: version_2(encoded.weights, encoded.activations),
            },
            bits=network.bits,
            layers=tuple(float_layers(network, lambda bits: f", encoded in {max(bits, MIN_BITS)} bits", reason=REASON)),
            notes=tuple(_notes(network, encoded)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class EncodedGraph:
    """Float graph and the encodings of its tensors.

    Attributes:
        model: The graph.
        weights: Encodings of weights.
        activations: Encodings of the activations that layers read.
        read: Names of these activations in the graph.
    """

    model: onnx.ModelProto
    weights: tuple[Encoding, ...]
    activations: tuple[Encoding, ...]
    read: Mapping[OperandKey, str]


def encode(network: Deployable) -> EncodedGraph:
    """Build the float graph of a network and the encodings of its tensors.

    Args:
        network: Network with its policy.

    Returns:
        Graph and encodings.

    Raises:
        NotExportableError: The network has no ONNX graph.
        UserError: An activation has 1 bit, which AIMET does not have.
    """
    names = [layer.name for layer in network.policy.layers]
    for place, layer in enumerate(network.policy.layers):
        second = None if network.quantizers.has_weights(place) else layer.w_bits
        for what, bits in (("input", layer.a_bits), ("second operand", second)):
            if bits is not None and bits < MIN_BITS:
                raise UserError(
                    f"--format aimet: the {what} of {layer.name} has 1 bit; AIMET has encodings of 2 bits or more"
                )
    lowering = FloatLowering(network)
    model = lowering.model()
    inputs, outputs = input_names(network.model, network.example), output_names(network.evaluated(network.example))
    renamed = rename(model.graph, tensor_names(network.template, inputs, outputs))
    remove_metadata(model.graph)
    describe(model, network)
    weights = tuple(
        Encoding(
            name=weight_tensor(names[layer]),
            bits=max(network.bits[0][layer] or MIN_BITS, MIN_BITS, code_bits(found.codes)),
            scale=tuple(map(float, found.scale)),
            axis=found.axis,
        )
        for layer, found in lowering.weights.items()
    )
    read = {operand: renamed.get(name, name) for operand, name in lowering.read.items()}
    encodings = {
        read[operand]: activation_encoding(read[operand], each) for operand, each in lowering.quantizers.items()
    }
    return EncodedGraph(model, weights, tuple(encodings.values()), read)


def weight_tensor(layer: str) -> str:
    """Return the name of the weights of a layer in the graph.

    Args:
        layer: Name of the layer.

    Returns:
        Name of the tensor.
    """
    return f"{layer}.weight"


def _notes(network: Deployable, encoded: EncodedGraph) -> Iterator[str]:
    yield f"encodings of version 1.0.0 in *{VERSION_1}, of version 2.0.0 in *{VERSION_2}, for the tensors of the graph"
    read = set(encoded.read.values())
    apart = sum(node.op_type == "Identity" and node.output[0] in read for node in encoded.model.graph.node)
    if apart:
        yield (
            f"{apart} inputs of layers are outputs of an Identity, as others read the tensor in float or in other "
            "bits; AIMET's encodings_to_onnx_qdq reads their encodings, its QuantizationSimModel has no quantizer there"
        )
    others = sorted({bits for part in network.bits for bits in part if bits is not None} - {4, 8})
    if others:
        text = ", ".join(map(str, others))
        yield f"{text} bits are read by AIMET's simulator; its ONNX QDQ, and chips, have 4 and 8"
    ones = [layer.name for layer in network.policy.layers if layer.w_bits == 1]
    if ones:
        yield f"weights of 1 bit are encoded in 2, the least that AIMET has: {', '.join(ones[:3])}"
    wider = [
        layer.name
        for layer, found in zip(network.policy.layers, _weight_bits(network, encoded), strict=True)
        if layer.w_bits is not None and found > max(layer.w_bits, MIN_BITS)
    ]
    if wider:
        names = ", ".join(wider[:3])
        yield f"weights are encoded in one bit more where a batch norm changes the sign of their lowest code: {names}"


def _weight_bits(network: Deployable, encoded: EncodedGraph) -> list[int]:
    """Return the bits of the encodings of every layer's weights; 0 for a layer without."""
    bits = {encoding.name: encoding.bits for encoding in encoded.weights}
    return [bits.get(weight_tensor(layer.name), 0) for layer in network.policy.layers]

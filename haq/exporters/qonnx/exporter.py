"""Exporter of QONNX files."""

from collections.abc import Iterator, Mapping

import onnx

from haq.errors import UserError
from haq.evaluation.engines.onnxruntime import NotExportableError
from haq.exporters.deployable import Deployable
from haq.exporters.float_graphs import float_layers
from haq.exporters.formats import Export, ExportOptions, FormatName, ToolchainName
from haq.exporters.onnx.graph import describe, remove_metadata
from haq.exporters.onnx.names import input_names, output_names, rename, tensor_names
from haq.exporters.qonnx.batch import set_batch
from haq.exporters.qonnx.lowering import QuantLowering
from haq.exporters.qonnx.toolchains import TOOLCHAINS, obstacles

REASON = "qonnx computes with the floats that codes stand for"
_KNOWN = ("Quant", "Conv", "ConvTranspose", "Gemm", "MatMul", "Gather", "Add", "Relu", "Clip", "MaxPool", "AveragePool")
_SHAPES = ("GlobalAveragePool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Concat", "Identity", "Pad")


class QonnxExporter:
    """Exporter of QONNX files, of a batch of one item.

    Attributes:
        format: Name of the format.
        suffix: Suffix of the file.
        runtimes: Names of the runtimes.
    """

    format: FormatName = "qonnx"
    suffix = ".onnx"
    runtimes: tuple[str, ...] = ("qonnx",)

    def build(self, network: Deployable, options: ExportOptions) -> Export:
        """Build the QONNX file of a network.

        Args:
            network: Network with its policy.
            options: Options; with a toolchain, what it cannot take is refused.

        Returns:
            The file. What FINN and hls4ml cannot take is in the notes.

        Raises:
            UserError: The network has no ONNX graph, or the toolchain cannot take it.
        """
        try:
            model = build_graph(network)
        except NotExportableError as error:
            raise UserError(
                f"--format qonnx: {error.reason}; use --format packed, which holds the weights alone"
            ) from error
        found = {name: list(obstacles(network, name)) for name in TOOLCHAINS}
        if options.toolchain is not None and found[options.toolchain]:
            raise UserError(f"--for {options.toolchain}: {_summary(found[options.toolchain])}")
        return Export(
            format=self.format,
            files={self.suffix: model.SerializeToString(deterministic=True)},
            bits=network.bits,
            layers=tuple(float_layers(network, lambda bits: f" on a grid of {bits} bits", reason=REASON)),
            notes=tuple(_notes(model, found)),
        )


def build_graph(network: Deployable) -> onnx.ModelProto:
    """Build the QONNX graph of a network, with the names of its layers.

    Args:
        network: Network with its policy.

    Returns:
        The graph, for one item.

    Raises:
        NotExportableError: The network has no ONNX graph.
        UserError: A quantizer has no `Quant` node.
    """
    model = QuantLowering(network).model()
    inputs, outputs = input_names(network.model, network.example), output_names(network.evaluated(network.example))
    rename(model.graph, tensor_names(network.template, inputs, outputs))
    remove_metadata(model.graph)
    set_batch(model.graph, 1)
    describe(model, network)
    return model


def _notes(model: onnx.ModelProto, found: Mapping[ToolchainName, list[str]]) -> Iterator[str]:
    yield "stored for a batch of one item, in floats: the widths are attributes, and the file is as large as in float"
    for toolchain, lines in found.items():
        yield f"{toolchain} cannot take it: {_summary(lines)}" if lines else f"{toolchain}: nothing known against it"
    others = sorted({node.op_type for node in model.graph.node} - {*_KNOWN, *_SHAPES})
    if others:
        yield f"operators besides layers, which tools for FPGAs may not take: {', '.join(others)}"


def _summary(lines: list[str]) -> str:
    return lines[0] + (f" (and {len(lines) - 1} more)" if len(lines) > 1 else "")

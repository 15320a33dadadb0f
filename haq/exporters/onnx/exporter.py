"""Exporter of ONNX files: the graph that the search evaluates, with integer codes."""

from collections.abc import Iterator
from importlib.metadata import version

from haq.errors import UserError
from haq.evaluation.engines.onnxruntime import NotExportableError
from haq.execution.onnx_sessions import EXACT_PRODUCTS
from haq.exporters.deployable import Deployable
from haq.exporters.formats import Export, ExportedLayer, ExportOptions, FormatName
from haq.exporters.onnx.graph import StoredGraph, build_graph
from haq.exporters.onnx.kernels import Optimized, optimize
from haq.exporters.onnx.narrow import Width
from haq.exporters.onnx.reasons import FloatReasons
from haq.exporters.onnx.speed import speed_note
from haq.formatting import counted

WIDTHS: tuple[Width, ...] = (8,)
"""Widths of stored weights that all runtimes take."""
COMPACT_WIDTHS: tuple[tuple[Width, ...], ...] = ((2, 4, 8), (4, 8))
"""Widths of stored weights of compact files, the preferred ones first; older releases of onnxruntime lack int2."""
_REQUANTIZED = ", and onnxruntime quantizes them to 8 bits by itself"


class OnnxExporter:
    """Exporter of ONNX files.

    Attributes:
        format: Name of the format.
        suffix: Suffix of the file.
        runtimes: Names of the runtimes that verify an export.
    """

    format: FormatName = "onnx"
    suffix = ".onnx"
    runtimes: tuple[str, ...] = ("onnxruntime",)

    def build(self, network: Deployable, options: ExportOptions) -> Export:
        """Build the ONNX file of a network.

        Args:
            network: Network with its policy.
            options: Options of the export.

        Returns:
            The file.

        Raises:
            UserError: The network has no ONNX graph, or onnxruntime does not open it.
        """
        try:
            graph, content, optimized = _opened(network, options)
        except NotExportableError as error:
            raise UserError(
                f"--format onnx: {error.reason}; use --format packed, which holds the weights alone"
            ) from error
        layers = tuple(_layers(network, graph, optimized))
        return Export(
            format=self.format,
            files={self.suffix: content},
            bits=network.bits,
            layers=layers,
            notes=tuple(_notes(network, graph, content, layers)),
        )


def _opened(network: Deployable, options: ExportOptions) -> tuple[StoredGraph, bytes, Optimized]:
    """Build the graph, and open it in onnxruntime; compact ones with the narrowest weights that it opens."""
    names = [layer.name for layer in network.policy.layers]
    choices = COMPACT_WIDTHS if options.compact else (WIDTHS,)
    for widths in choices:
        graph = build_graph(network, widths)
        content = graph.model.SerializeToString(deterministic=True)
        try:
            return graph, content, optimize(content, names)
        except NotExportableError:
            if widths == choices[-1]:
                raise
    raise AssertionError("the last choice returns or raises")


def _layers(network: Deployable, graph: StoredGraph, optimized: Optimized) -> Iterator[ExportedLayer]:
    reasons = FloatReasons(graph.model.graph)
    for layer in network.policy.layers:
        is_integer = layer.name in optimized.kernels
        stored = graph.weights[layer.name]
        yield ExportedLayer(
            name=layer.name,
            w_bits=layer.w_bits,
            a_bits=layer.a_bits,
            storage=stored.storage,
            weight_bytes=stored.bytes,
            is_integer=is_integer,
            reason="" if is_integer else reasons.find(layer) + _REQUANTIZED * (layer.name in optimized.requantized),
        )


def _notes(network: Deployable, graph: StoredGraph, content: bytes, layers: tuple[ExportedLayer, ...]) -> Iterator[str]:
    integers = sum(layer.is_integer for layer in layers)
    yield f"{integers} of {len(layers)} layers run as integer kernels of onnxruntime {version('onnxruntime')}"
    if integers:
        yield f'x86 processors without VNNI need add_session_config_entry("{EXACT_PRODUCTS}", "1") for the same codes'
    yield speed_note(network, content)
    narrow = [stored.storage for stored in graph.weights.values() if stored.storage in ("int2", "int4")]
    if narrow:
        types = " and ".join(sorted(set(narrow)))
        yield (
            f"weights of {counted(len(narrow), 'layer')} are stored in {types}, which takes a runtime with opset "
            f"{graph.opset}; onnxruntime widens them when it opens the file and runs the same kernels"
        )

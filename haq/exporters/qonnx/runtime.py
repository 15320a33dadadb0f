"""Runtime that executes QONNX files with qonnx."""

from collections.abc import Iterator

import onnx
import torch

from haq.execution.structures import Structure, item_count, rebuilt
from haq.exporters.deployable import Deployable
from haq.exporters.float_graphs import compare_layers, graph_inputs
from haq.exporters.formats import Export, FormatName
from haq.exporters.onnx.names import ACTIVATIONS
from haq.exporters.protocols import LayerCodes
from haq.exporters.qonnx.batch import set_batch
from haq.exporters.qonnx.execution import execute, missing_qonnx
from haq.exporters.qonnx.exporter import REASON
from haq.tasks.predictions import Runner


class QonnxRuntime:
    """QONNX files, executed by qonnx.

    Attributes:
        name: Name of the runtime.
        format: Format of the files.
        max_images: Images that take about a minute: every operator is a session of its own.
    """

    name = "qonnx"
    format: FormatName = "qonnx"
    max_images: int | None = 64

    def missing(self) -> str | None:
        return missing_qonnx()

    def runner(self, export: Export, network: Deployable) -> Runner:
        model = onnx.load_model_from_string(export.main)
        outputs = network.evaluated(network.example)

        def run(inputs: Structure) -> Structure:
            found = execute(_sized(model, item_count(inputs)), graph_inputs(model, inputs))
            return rebuilt(outputs, [torch.from_numpy(found[value.name]) for value in model.graph.output])

        return run

    def layer_codes(self, export: Export, network: Deployable, inputs: Structure) -> Iterator[LayerCodes]:
        layers = enumerate(network.policy.layers)
        tensors = {(place, part): f"{layer.name}.{part}" for place, layer in layers for part in ACTIVATIONS}
        # Sized before it is cut: the first dimension of other tensors is not always that of the items.
        model = _sized(onnx.load_model_from_string(export.main), item_count(inputs))
        return compare_layers(network, inputs, model=model, tensors=tensors, execute=execute, reason=REASON)


def _sized(model: onnx.ModelProto, items: int) -> onnx.ModelProto:
    """Return a graph for a number of items, for which qonnx has no name."""
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    set_batch(sized.graph, items)
    return sized

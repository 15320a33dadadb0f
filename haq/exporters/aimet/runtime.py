"""Runtime that applies AIMET encodings to their graph, and runs it in onnxruntime."""

from collections.abc import Iterator

import onnx
import torch

from haq.evaluation.chunks import in_chunks
from haq.evaluation.engines.onnxruntime.sessions import open_session, run_named
from haq.execution.structures import Structure, rebuilt
from haq.exporters.aimet.applied import apply_encodings, quantized_name
from haq.exporters.aimet.exporter import REASON, VERSION_2, encode
from haq.exporters.deployable import Deployable
from haq.exporters.float_graphs import Arrays, compare_layers, graph_inputs
from haq.exporters.formats import Export, FormatName
from haq.exporters.protocols import LayerCodes
from haq.tasks.predictions import Runner


class EncodingsRuntime:
    """AIMET encodings, applied to the graph beside them as quantizers.

    Attributes:
        name: Name of the runtime.
        format: Format of the files.
        max_images: None: it is fast.
    """

    name = "encodings"
    format: FormatName = "aimet"
    max_images: int | None = None

    def missing(self) -> str | None:
        return None

    def runner(self, export: Export, network: Deployable) -> Runner:
        model = _applied(export)
        outputs = network.evaluated(network.example)
        session = open_session(model.SerializeToString(), threads=torch.get_num_threads())

        def run(inputs: Structure) -> Structure:
            return rebuilt(outputs, map(torch.from_numpy, run_named(session, graph_inputs(model, inputs))))

        return lambda inputs: in_chunks(run, inputs)

    def layer_codes(self, export: Export, network: Deployable, inputs: Structure) -> Iterator[LayerCodes]:
        tensors = {operand: quantized_name(name) for operand, name in encode(network).read.items()}
        applied = _applied(export)
        return compare_layers(network, inputs, model=applied, tensors=tensors, execute=_execute, reason=REASON)


def _applied(export: Export) -> onnx.ModelProto:
    return apply_encodings(onnx.load_model_from_string(export.main), export.files[VERSION_2])


def _execute(model: onnx.ModelProto, inputs: Arrays) -> Arrays:
    session = open_session(model.SerializeToString(), threads=torch.get_num_threads())
    return dict(zip([value.name for value in model.graph.output], run_named(session, inputs), strict=True))

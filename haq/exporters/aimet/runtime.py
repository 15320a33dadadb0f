"""Runtime that applies AIMET encodings to their graph, and runs it in onnxruntime."""

from collections.abc import Iterator, Mapping
from typing import Any

import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from haq.evaluation.chunks import in_chunks
from haq.evaluation.engines.onnxruntime.sessions import by_name, open_session, run_named
from haq.execution.structures import Structure, rebuilt
from haq.exporters.aimet.applied import apply_encodings, quantized_name
from haq.exporters.aimet.exporter import REASON, VERSION_2, input_tensors
from haq.exporters.deployable import Deployable
from haq.exporters.float_graphs import compare_layers
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
        names = [value.name for value in model.graph.input]

        def run(inputs: Structure) -> Structure:
            arrays = {name: tensor.numpy(force=True) for name, tensor in by_name(names, inputs).items()}
            return rebuilt(outputs, map(torch.from_numpy, run_named(session, arrays)))

        return lambda inputs: in_chunks(run, inputs)

    def layer_codes(self, export: Export, network: Deployable, inputs: Structure) -> Iterator[LayerCodes]:
        model = onnx.load_model_from_string(export.main)
        read = input_tensors(model, [layer.name for layer in network.policy.layers])
        tensors = {layer: quantized_name(name) for layer, name in read.items()}
        applied = _applied(export)
        return compare_layers(network, inputs, model=applied, tensors=tensors, execute=_execute, reason=REASON)


def _applied(export: Export) -> onnx.ModelProto:
    return apply_encodings(onnx.load_model_from_string(export.main), export.files[VERSION_2])


def _execute(model: onnx.ModelProto, inputs: Structure, given: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Run a graph on the inputs of a network and on given tensors by name."""
    session = open_session(model.SerializeToString(), threads=torch.get_num_threads())
    own = [value.name for value in model.graph.input if value.name not in given]
    tensors = {**by_name(own, inputs), **given}
    found = run_named(session, {name: tensor.numpy(force=True) for name, tensor in tensors.items()})
    return dict(zip([value.name for value in model.graph.output], found, strict=True))

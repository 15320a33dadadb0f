"""Runtime that executes QONNX files with qonnx."""

from collections.abc import Iterator, Mapping
from typing import Any

import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from haq.evaluation.engines.onnxruntime.sessions import by_name
from haq.execution.structures import Structure, item_count, rebuilt
from haq.exporters.deployable import Deployable
from haq.exporters.formats import Export, FormatName
from haq.exporters.protocols import LayerCodes
from haq.exporters.qonnx.batch import set_batch
from haq.exporters.qonnx.cut import cut_at_inputs
from haq.exporters.qonnx.execution import execute, missing_qonnx
from haq.exporters.qonnx.exporter import REASON
from haq.exporters.qonnx.layer_inputs import compare_inputs, layer_inputs
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
            found = _execute(model, inputs, {})
            return rebuilt(outputs, [torch.from_numpy(found[value.name]) for value in model.graph.output])

        return run

    def layer_codes(self, export: Export, network: Deployable, inputs: Structure) -> Iterator[LayerCodes]:
        """Compare the input codes of every layer, computed from equal inputs of the layers before it.

        Codes at ties, whose values in torch are within 0.01 steps of the border between two codes, do not count as
        differing: floats are added in another order.
        """
        seen = layer_inputs(network, inputs)
        model, names = cut_at_inputs(onnx.load_model_from_string(export.main), network, seen)
        given = {names[layer]: each.quantized for layer, each in seen.items()}
        found = _execute(model, inputs, given)
        for layer, bits in enumerate(network.policy.layers):
            if layer not in seen:
                yield LayerCodes(layer=bits.name, is_integer=False, reason="its input is in float")
                continue
            compared, differing = compare_inputs(seen[layer], found[f"{bits.name}.input"])
            yield LayerCodes(layer=bits.name, is_integer=False, reason=REASON, compared=compared, differing=differing)


def _execute(model: onnx.ModelProto, inputs: Structure, given: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Run a graph on the inputs of a network and on given tensors by name."""
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    set_batch(sized.graph, item_count(inputs))
    own = [value.name for value in model.graph.input if value.name not in given]
    tensors = {**by_name(own, inputs), **given}
    return execute(sized, {name: tensor.numpy(force=True) for name, tensor in tensors.items()})

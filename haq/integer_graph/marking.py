"""The float network as an ONNX graph in which every layer's input and weights are marked.

The network is exported while the same function mode watches it that quantizes it in PyTorch. It puts a mark, an
operation of a domain of its own, around what it would quantize. So a layer is found in the graph however it is called,
and needs no guess from names, shapes or order.
"""

import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from haq.integer_graph.errors import NotExportableError
from haq.layers import Trace
from haq.quantized_model import LayerCalls
from haq.weighted_calls import Call, WeightIndex

MARKS = "haq"
"""The domain of the marks."""
INPUT, WEIGHT = "Input", "Weight"
"""The marks: identities with the layer's position as attribute `layer`."""


def export_marked(model: nn.Module, trace: Trace, example: Tensor) -> onnx.ModelProto:
    """The float network, with a batch of any size, marked where quantizers belong.

    `example` holds one item, [1, ...]. Layers that read integers, as embeddings do, have no mark at their input.
    Raises NotExportableError.
    """
    batch = example.expand(2, *example.shape[1:]).clone()  # one item would be taken for a fixed size
    marked = _Marked(model, trace).eval()
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                marked, (batch,), dynamo=True, verbose=False, dynamic_shapes=({0: torch.export.Dim("batch")},)
            )
    except (torch.onnx.OnnxExporterError, ImportError) as error:
        raise NotExportableError(f"the network has no ONNX graph: {_one_line(error)}") from error
    assert program is not None, "torch returns a program when it writes no file"
    proto = program.model_proto
    _require_layers(proto, trace)
    return proto


def layer_of(node: onnx.NodeProto) -> int:
    """The layer that a mark belongs to, by its position in the trace."""
    return next(int(attribute.i) for attribute in node.attribute if attribute.name == "layer")


class _Marked(nn.Module):
    """A network that marks its layers while it runs."""

    def __init__(self, model: nn.Module, trace: Trace) -> None:
        super().__init__()
        self.model, self._sites = model, trace.sites

    def forward(self, x: Tensor) -> Any:
        # The exporter runs the network with stand-ins for its parameters: they are looked up on every run.
        with LayerCalls(WeightIndex(self.model), self._sites, _marked_call):
            outputs = self.model(x)
        if not isinstance(outputs, Tensor):
            raise TypeError(f"it answers with a {type(outputs).__name__}, not with one tensor")
        return outputs


def _marked_call(layer: int, call: Call) -> Tensor:
    x = _mark(INPUT, call.input, layer) if call.input.is_floating_point() else call.input
    return call.run(x, _mark(WEIGHT, call.weight, layer))


def _mark(name: str, x: Tensor, layer: int) -> Tensor:
    attributes = {"layer": layer}
    return torch.onnx.ops.symbolic(f"{MARKS}::{name}", (x,), attributes, dtype=x.dtype, shape=x.shape, version=1)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter logs pages on what it cannot export; its error says it in a line."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _require_layers(proto: onnx.ModelProto, trace: Trace) -> None:
    """Every layer has its weights marked once; a network that runs otherwise when exported could have none or two."""
    marks = Counter(layer_of(node) for node in proto.graph.node if (node.domain, node.op_type) == (MARKS, WEIGHT))
    for layer, found in enumerate(trace.layers):
        if marks[layer] != 1:
            raise NotExportableError(f"layer {found.name} is {marks[layer]} times in the exported network, not once")


def _one_line(error: BaseException) -> str:
    """The first line of what lies at the bottom of an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__

"""The float network as an ONNX graph in which all that a policy may change is marked.

The network is exported while the same function mode watches it that quantizes it in PyTorch. It puts a mark, an
operation of a domain of its own, around what it would quantize or correct. So a layer is found in the graph however it
is called, and needs no guess from names, shapes or order.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from haq.evaluation.engines.onnxruntime.errors import NotExportableError
from haq.evaluation.engines.onnxruntime.silence import silent
from haq.execution.networks import no_checkpointing
from haq.execution.user_code import torch_state_kept
from haq.network.layer_calls import LayerCalls, LayerIndex, NormCall
from haq.network.layers import Trace
from haq.network.tracing.weighted_calls import Call

MARKS = "haq"
"""The domain of the marks."""
INPUT, WEIGHT = "Input", "Weight"
"""Identities around what a layer reads; attribute `layer`, its position."""
NORM = "Norm"
"""In place of a BatchNormalization, with its inputs; attributes `path` and `call`, and `epsilon`."""


def export_marked(model: nn.Module, trace: Trace, example: Tensor) -> onnx.ModelProto:
    """The float network, for batches of any size, marked where quantizers and corrections belong.

    `example` holds one item, [1, ...]. Layers that read integers, as embeddings do, have no mark at their input.
    Raises NotExportableError.
    """
    batch = example.expand(2, *example.shape[1:]).clone()  # a single item would be taken for a fixed size
    sizes = ({0: torch.export.Dim("batch")},)
    try:
        with silent(), torch_state_kept(), no_checkpointing(), torch.no_grad():
            program = torch.onnx.export(
                _Marked(model, trace).eval(), (batch,), dynamo=True, dynamic_shapes=sizes, verbose=False
            )
    except Exception as error:  # the exporter runs the network's own code, which may raise anything
        raise NotExportableError(f"the network has no ONNX graph: {_one_line(error)}") from error
    assert program is not None, "torch returns a program when it is given no file to write"
    _require_layers(program.model_proto, trace)
    return program.model_proto


def is_mark(node: onnx.NodeProto, name: str) -> bool:
    """Whether a node is such a mark."""
    return node.domain == MARKS and node.op_type == name


def layer_of(mark: onnx.NodeProto) -> int:
    """The position of the layer that a mark belongs to."""
    return int(attribute(mark, "layer", -1))


def norm_of(mark: onnx.NodeProto) -> NormCall:
    """The batch norm that a mark stands for."""
    return attribute(mark, "path", b"").decode(), int(attribute(mark, "call", -1))


def epsilon_of(mark: onnx.NodeProto) -> float:
    """What a marked batch norm adds to the variance."""
    return float(attribute(mark, "epsilon", 0.0))


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """The value of a node's attribute."""
    return next((helper.get_attribute_value(found) for found in node.attribute if found.name == name), default)


class _Marked(nn.Module):
    """A network that marks what it does while it runs."""

    def __init__(self, model: nn.Module, trace: Trace) -> None:
        super().__init__()
        self.model, self._sites = model, trace.sites

    def forward(self, x: Tensor) -> Tensor:
        # The exporter runs the network with stand-ins for its parameters: they are looked up on every run.
        with LayerCalls(LayerIndex(self.model, self._sites), _mark_layer, _mark_norm):
            outputs = self.model(x.clone())  # which it may write into
        if not isinstance(outputs, Tensor):
            raise TypeError(f"it answers with a {type(outputs).__name__}, not with one tensor")
        return outputs


def _mark_layer(layer: int, call: Call) -> Tensor:
    x = _mark(INPUT, call.input, layer=layer) if call.input.is_floating_point() else call.input
    return call.run(x, _mark(WEIGHT, call.weight, layer=layer))


def _mark_norm(norm: NormCall, arguments: Mapping[str, Any]) -> Tensor:
    path, call = norm
    mean, variance = arguments["running_mean"], arguments["running_var"]
    gamma, beta = arguments.get("weight"), arguments.get("bias")
    gamma = torch.ones_like(mean) if gamma is None else gamma
    beta = torch.zeros_like(mean) if beta is None else beta
    inputs = (arguments["input"], gamma, beta, mean, variance)
    return _mark(NORM, *inputs, path=path, call=call, epsilon=float(arguments.get("eps", 1e-5)))


def _mark(name: str, x: Tensor, *others: Tensor, **attributes: Any) -> Tensor:
    inputs = (x, *others)
    return torch.onnx.ops.symbolic(f"{MARKS}::{name}", inputs, attributes, dtype=x.dtype, shape=x.shape, version=1)


def _require_layers(proto: onnx.ModelProto, trace: Trace) -> None:
    """Every layer is there once; a network that runs otherwise when it is exported could lack it or repeat it."""
    marks = Counter(layer_of(node) for node in proto.graph.node if is_mark(node, WEIGHT))
    for number, layer in enumerate(trace.layers):
        if marks[number] != 1:
            raise NotExportableError(f"layer {layer.name} is in the exported network {marks[number]} times, not once")


def _one_line(error: BaseException) -> str:
    """The first line of what lies at the bottom of an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__

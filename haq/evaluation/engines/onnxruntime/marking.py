"""Export of the float network to an ONNX graph in which everything that a policy may change is marked.

The network is exported under the same function mode that quantizes it in PyTorch. The mode inserts marks, operators of
a domain of their own, around the tensors to be quantized or corrected. So every layer is found in the graph however it
is called, without relying on names, shapes or order.
"""

from collections import Counter
from collections.abc import Mapping
from keyword import iskeyword
from typing import Any

import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from haq.evaluation.engines.onnxruntime.errors import NotExportableError
from haq.evaluation.engines.onnxruntime.silence import silent
from haq.execution.networks import no_checkpointing
from haq.execution.structures import Structure, rebuilt, spread, tensors
from haq.execution.user_code import torch_state_kept
from haq.network.layer_calls import LayerCalls, LayerIndex, NormCall
from haq.network.layers import Trace
from haq.network.tracing.weighted_calls import Call
from haq.quantization.operands import OperandKey

MARKS = "haq"
"""Domain of the marks."""
INPUT, WEIGHT, SECOND_INPUT = "Input", "Weight", "SecondInput"
"""Identities around the input of a layer, and around its weight or second activation; `layer` is its position."""
NORM = "Norm"
"""Replacement of a BatchNormalization with the same inputs; attributes `path`, `call` and `epsilon`."""


def export_marked(model: nn.Module, trace: Trace, example: Structure) -> onnx.ModelProto:
    """Export the float network, for batches of any size, with marks where quantizers and corrections belong.

    Layers that read integers, such as embeddings, have no mark at their input.

    Args:
        model: Float network.
        trace: Trace of the network.
        example: Input of one item, [1, ...].

    Returns:
        The ONNX model with marks.

    Raises:
        NotExportableError: The network cannot be exported.
    """
    _require_tensors(example)
    _require_no_steps(trace)
    # The exporter would specialize on a batch of one item.
    batch = tuple(tensor.expand(2, *tensor.shape[1:]).clone() for tensor in tensors(example))
    size = {0: torch.export.Dim("batch")}
    if isinstance(example, Tensor):
        network: nn.Module = _Marked(model, trace, example)
        sizes: tuple[Any, ...] = (size,)
    else:
        network, sizes = _MarkedStructure(model, trace, example), (tuple(size for _ in batch),)
    try:
        with silent(), torch_state_kept(), no_checkpointing(), torch.no_grad():
            program = torch.onnx.export(network.eval(), batch, dynamo=True, dynamic_shapes=sizes, verbose=False)
    except Exception as error:  # the exporter runs the network's own code, which may raise anything
        raise NotExportableError(f"the network has no ONNX graph: {_reason(error, model)}") from error
    assert program is not None, "torch returns a program when it is given no file to write"
    _require_layers(program.model_proto, trace)
    return program.model_proto


def _require_no_steps(trace: Trace) -> None:
    """Refuse recurrent layers before the exporter, which has one operator for all steps, takes minutes for them."""
    for layer in trace.layers:
        if layer.kind == "recurrent" and layer.output_size[0] > 1:
            raise NotExportableError(
                f"the exported network has one operator for all steps of {layer.name}, between which nothing is "
                "quantized"
            )


def is_mark(node: onnx.NodeProto, name: str) -> bool:
    """Return whether a node is a mark of a given kind.

    Args:
        node: Node of the graph.
        name: `INPUT`, `WEIGHT`, `SECOND_INPUT` or `NORM`.

    Returns:
        True if it is.
    """
    return node.domain == MARKS and node.op_type == name


def layer_of(mark: onnx.NodeProto) -> int:
    """Return the position of the layer that a mark belongs to.

    Args:
        mark: Mark of an input or a weight.

    Returns:
        Position of the layer in the trace.
    """
    return int(attribute(mark, "layer", -1))


def operand_of(mark: onnx.NodeProto) -> OperandKey:
    """Return the operand that a mark is around.

    Args:
        mark: Mark of an input, or of a second activation.

    Returns:
        Position of the layer, and which operand.
    """
    return layer_of(mark), "second_input" if is_mark(mark, SECOND_INPUT) else "input"


def norm_of(mark: onnx.NodeProto) -> NormCall:
    """Return the batch norm call that a mark replaces.

    Args:
        mark: Mark of a batch norm.

    Returns:
        Path of the running mean, and the number of the call.
    """
    return attribute(mark, "path", b"").decode(), int(attribute(mark, "call", -1))


def epsilon_of(mark: onnx.NodeProto) -> float:
    """Return the epsilon of a marked batch norm.

    Args:
        mark: Mark of a batch norm.

    Returns:
        The number that is added to the variance.
    """
    return float(attribute(mark, "epsilon", 0.0))


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return the value of a node's attribute.

    Args:
        node: Node of the graph.
        name: Name of the attribute.
        default: Value if the node does not have the attribute.

    Returns:
        The value.
    """
    return next((helper.get_attribute_value(found) for found in node.attribute if found.name == name), default)


class _Marked(nn.Module):
    """Network that inserts marks while it runs."""

    def __init__(self, model: nn.Module, trace: Trace, example: Structure) -> None:
        super().__init__()
        self.model, self._sites, self._example = model, trace.sites, example

    def forward(self, x: Tensor) -> Any:
        return self.run(x)

    def run(self, *found: Tensor) -> Any:
        """Run the network on tensors in the places of those of its example input."""
        copies = (tensor.clone() for tensor in found)  # the network may write into its input
        positional, named = spread(rebuilt(self._example, copies))
        # The exporter runs the network with other tensors for its parameters, so they are looked up on every run.
        with LayerCalls(LayerIndex(self.model, self._sites), _mark_layer, _mark_norm):
            outputs = self.model(*positional, **named)
        if isinstance(outputs, Tensor):
            return outputs
        answered = tuple(tensors(outputs))
        if not answered:
            raise TypeError(f"it answers with a {type(outputs).__name__} without tensors")
        return answered


class _MarkedStructure(_Marked):
    """The same for several tensors, as the exporter sees from the signature."""

    def forward(self, *found: Tensor) -> Any:
        return self.run(*found)


def _require_tensors(inputs: Structure) -> None:
    """Raise NotExportableError for inputs that are not tensors, or tuples and dicts of them."""
    if isinstance(inputs, Tensor):
        return
    if not isinstance(inputs, Mapping | tuple):
        raise NotExportableError(f"its input is a {type(inputs).__name__}, not tensors in a tuple or a dict")
    for part in inputs.values() if isinstance(inputs, Mapping) else inputs:
        _require_tensors(part)


def _mark_layer(layer: int, call: Call) -> Tensor:
    x = _mark(INPUT, call.input, layer=layer) if call.input.is_floating_point() else call.input
    return call.run(x, _mark(WEIGHT if call.has_weights else SECOND_INPUT, call.factor, layer=layer))


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
    """Raise NotExportableError unless every layer is in the graph exactly once.

    A network that runs differently under the exporter could skip or repeat a layer.
    """
    factors = (node for node in proto.graph.node if is_mark(node, WEIGHT) or is_mark(node, SECOND_INPUT))
    marks = Counter(map(layer_of, factors))
    for number, layer in enumerate(trace.layers):
        if marks[number] != 1:
            raise NotExportableError(f"layer {layer.name} is in the exported network {marks[number]} times, not once")


def _reason(error: BaseException, model: nn.Module) -> str:
    """Return the first line of the root cause of an error, or the name that the exporter could not write as code."""
    while error.__cause__ is not None:
        error = error.__cause__
    words = (word for name, _ in model.named_modules() for word in name.split("."))
    bad = next((word for word in words if '"' in word or iskeyword(word)), None)
    if isinstance(error, SyntaxError) and bad is not None:
        return f"torch's exporter takes no module of the name {bad!r}; rename it"
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__

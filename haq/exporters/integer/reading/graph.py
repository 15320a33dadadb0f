"""Reading of an ONNX graph as steps, node by node.

Nodes that compute single values, and chains of them, become functions; zeros around images are kept apart until
something other than a convolution reads them.
"""

from collections.abc import Callable, Mapping

import onnx

from haq.errors import UserError
from haq.evaluation.engines.onnxruntime.marking import INPUT, MARKS, NORM, WEIGHT, is_mark
from haq.evaluation.engines.onnxruntime.template import Node, Template
from haq.exporters.integer.reading import functions
from haq.exporters.integer.reading.arithmetic_nodes import read_pointwise
from haq.exporters.integer.reading.layer_nodes import read_input, read_norm, read_product
from haq.exporters.integer.reading.shape_nodes import (
    read_concatenation,
    read_mean,
    read_pad,
    read_pool,
    read_reshape,
    read_slice,
)
from haq.exporters.integer.reading.state import ELSEWHERE, GraphState, refuse
from haq.exporters.integer.reading.steps import Steps
from haq.quantization.corrections import Corrections

_HANDLERS: Mapping[str, Callable[[GraphState, Node], None]] = {
    f"{MARKS}.{INPUT}": read_input,
    f"{MARKS}.{NORM}": read_norm,
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul", "Gather"), read_product),
    **dict.fromkeys(("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"), read_pool),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), read_reshape),
    "ReduceMean": read_mean,
    "Concat": read_concatenation,
    "Pad": read_pad,
    "Slice": read_slice,
}


def read_steps(template: Template, corrections: Corrections) -> Steps:
    """Read the graph of a network as steps.

    Args:
        template: Graph without the quantizers, weights and biases of its layers.
        corrections: Corrections of the policy.

    Returns:
        The steps.

    Raises:
        UserError: A layer or an operator has no integer form; the message names it.
    """
    inputs, outputs = template.marked.graph.input, template.marked.graph.output
    if len(inputs) != 1 or len(outputs) != 1:
        raise UserError(
            f"a network in integers alone has one input and one output, not {len(inputs)} and {len(outputs)}; "
            f"{ELSEWHERE}"
        )
    if inputs[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise UserError(f"the network reads indices, and a network in integers alone reads images; {ELSEWHERE}")
    state = GraphState(template, corrections)
    source = state.values[inputs[0].name]
    for node in template.nodes:
        _read(state, node)
    output = state.plain(state.values[outputs[0].name])
    return Steps(input=source.root, input_shape=state.shape(source), steps=tuple(state.steps), output=output)


def _read(state: GraphState, node: Node) -> None:
    if is_mark(node, WEIGHT) or state.computes_sizes(node):
        return
    handler = _HANDLERS.get(f"{node.domain}.{node.op_type}" if node.domain else node.op_type)
    if handler is not None:
        handler(state, node)
    elif functions.is_pointwise(node.op_type):
        read_pointwise(state, node)
    else:
        refuse(node)

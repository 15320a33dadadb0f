"""Builder of the ONNX graph of a policy from a template."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from haq.evaluation.engines.onnxruntime.marking import MARKS, operand_of
from haq.evaluation.engines.onnxruntime.template import Activation, Node, Template
from haq.quantization.linear import QuantizerParameters

SIGNED_OFFSET = 128
"""Offset of stored signed input codes, which are unsigned with a zero point higher by this amount: onnxruntime does not
fuse signed codes that pass through a Clip.
"""


class Quantized(NamedTuple):
    """Names of the codes of a tensor, and of their scale and zero point."""

    codes: str
    scale: str
    zero_point: str


class Assembly:
    """Nodes of a graph in order, and its constants; initially the constants of the template.

    Args:
        template: Graph without the quantizers, weights and biases of its layers.
    """

    def __init__(self, template: Template) -> None:
        self._template = template
        self._nodes: list[Node] = []
        self._constants = dict(template.constants)
        self._quantized: dict[str, Quantized] = {}
        self._shared: dict[tuple[str, QuantizerParameters, tuple[int, int]], Quantized] = {}

    def append(self, node: Node) -> None:
        """Append a node unchanged.

        Args:
            node: Node of the template.
        """
        self._nodes.append(node)

    def constant(self, name: str, values: Any) -> str:
        """Add a constant tensor.

        Args:
            name: Name of the tensor.
            values: Array, or what numpy makes an array of.

        Returns:
            The name.
        """
        return self.tensor(numpy_helper.from_array(np.asarray(values), name))

    def tensor(self, tensor: onnx.TensorProto) -> str:
        """Add a constant tensor of any type.

        Args:
            tensor: Tensor with its name.

        Returns:
            The name.
        """
        self._constants[tensor.name] = tensor
        return tensor.name

    def add(self, operator: str, inputs: Sequence[str], output: str, *others: str, **attributes: Any) -> str:
        """Append a new node.

        Args:
            operator: Operator of the node.
            inputs: Names of the inputs.
            output: Name of the first output.
            *others: Names of further outputs.
            **attributes: Attributes of the node.

        Returns:
            The name of the first output.
        """
        outputs = [output, *others]
        self._nodes.append(helper.make_node(operator, inputs, outputs, name=f"{output}/{operator}", **attributes))
        return output

    def add_input(self, mark: Node, quantizer: QuantizerParameters | None) -> None:
        """Add the quantizer of an operand of a layer, which includes the activation function before it.

        Args:
            mark: Mark of the input, or of the second activation.
            quantizer: Parameters of the quantizer; None for an input in float.
        """
        if quantizer is None:
            activation = self._template.activations.get(mark.output[0])
            operator, others = ("Identity", []) if activation is None else (activation.operator, activation.inputs)
            self.add(operator, [mark.input[0], *others], mark.output[0])
            return
        # Equal quantizers of a tensor share its codes, so that the layer before gets an integer kernel.
        bounds = _code_bounds(quantizer, self._template.activations.get(mark.output[0]))
        key = (mark.input[0], quantizer, bounds)
        if key not in self._shared:
            self._shared[key] = self._codes(mark, quantizer, source=mark.input[0], name=self.operand_name(mark))
        self._add_values(self._shared[key], mark)

    def add_cut_input(self, mark: Node, quantizer: QuantizerParameters) -> str:
        """Add the quantizer of an operand twice: at the end of the preceding segment, and for a fed tensor.

        The layer reads the fed tensor, `LAYER.input.given` or `LAYER.second_input.given`.

        Args:
            mark: Mark of the input, or of the second activation.
            quantizer: Parameters of the quantizer.

        Returns:
            The name of the codes at the end of the preceding segment.
        """
        name = self.operand_name(mark)
        found, *_ = self._codes(mark, quantizer, source=mark.input[0], name=f"{name}.found")
        self._add_values(self._codes(mark, quantizer, source=f"{name}.given", name=name), mark)
        return found

    def quantized(self, name: str) -> Quantized | None:
        """Return the codes of a quantized operand.

        Args:
            name: Name of the tensor of their values, which a layer reads.

        Returns:
            The codes; None if the tensor is not the values of codes.
        """
        return self._quantized.get(name)

    def operand_name(self, mark: Node) -> str:
        """Return the name of a quantized operand.

        Args:
            mark: Mark of the input, or of the second activation.

        Returns:
            `LAYER.input` or `LAYER.second_input`.
        """
        layer, operand = operand_of(mark)
        return f"{self._template.products[layer].name}.{operand}"

    def _add_values(self, codes: Quantized, mark: Node) -> None:
        """Add the values of codes, which a layer reads."""
        self._quantized[mark.output[0]] = codes
        self.add("DequantizeLinear", codes, mark.output[0])

    def _codes(self, mark: Node, quantizer: QuantizerParameters, *, source: str, name: str) -> Quantized:
        """Add the codes of a tensor."""
        offset = code_offset(quantizer)
        scale = self.constant(f"{name}.scale", np.float32(quantizer.scale))
        zero_point = self.constant(f"{name}.zero_point", np.uint8(quantizer.zero_point + offset))
        if quantizer.offset:
            moved = self.constant(f"{name}.offset", np.float32(quantizer.offset))
            source = self.add("Sub", [source, moved], f"{name}.centered")
        codes = self.add("QuantizeLinear", [source, scale, zero_point], f"{name}.rounded")
        activation = self._template.activations.get(mark.output[0])
        low, high = (bound + offset for bound in _code_bounds(quantizer, activation))
        if (low, high) != (0, 255):
            bounds = [self.constant(f"{name}.q_{end}", np.uint8(x)) for end, x in (("min", low), ("max", high))]
            codes = self.add("Clip", [codes, *bounds], f"{name}.codes")
        return Quantized(codes, scale, zero_point)

    def model(
        self,
        outputs: Iterable[onnx.ValueInfoProto],
        functions: Sequence[onnx.FunctionProto] = (),
        *,
        more_inputs: Iterable[onnx.ValueInfoProto] = (),
    ) -> onnx.ModelProto:
        """Return the graph of given outputs, without nodes that they do not depend on.

        Args:
            outputs: Outputs of the graph.
            functions: Functions of the domain `haq` that the graph calls.
            more_inputs: Inputs in addition to the network's own.

        Returns:
            The ONNX model.
        """
        outputs, marked = list(outputs), self._template.marked
        nodes, read = _needed(self._nodes, (value.name for value in outputs))
        constants = [tensor for name, tensor in self._constants.items() if name in read]
        graph = helper.make_graph(nodes, "haq", [*marked.graph.input, *more_inputs], outputs, constants)
        opsets = [opset for opset in marked.opset_import if functions or opset.domain != MARKS]
        return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=marked.ir_version)


def code_offset(quantizer: QuantizerParameters) -> int:
    """Return the difference between the stored input codes and those of the quantizer.

    Args:
        quantizer: Parameters of the quantizer.

    Returns:
        `SIGNED_OFFSET` for signed codes, else 0.
    """
    return SIGNED_OFFSET if quantizer.q_min < 0 else 0


def _code_bounds(quantizer: QuantizerParameters, activation: Activation | None) -> tuple[int, int]:
    """Return the lowest and highest code of an input, within the range of the activation function before it."""
    low, high = quantizer.q_min, quantizer.q_max
    if activation is None:
        return low, high
    scale, offset = np.float32(quantizer.scale), np.float32(quantizer.offset)
    ends = (np.float32(activation.low), np.float32(activation.high))
    lowest, highest = (np.rint((end - offset) / scale) + quantizer.zero_point for end in ends)
    return int(max(low, lowest)), int(min(high, highest))


def _needed(nodes: Sequence[Node], outputs: Iterable[str]) -> tuple[list[Node], set[str]]:
    """Return the nodes that the outputs depend on, and the names of the tensors that these read."""
    kept, read = [], set(outputs)
    for node in reversed(nodes):
        if not read.isdisjoint(node.output):
            kept.append(node)
            read.update(node.input)
    return kept[::-1], read

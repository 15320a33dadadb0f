"""State of the reading of a graph: values of tensors by name, and the steps so far."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NoReturn

import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from haq.errors import UserError
from haq.evaluation.engines.onnxruntime.marking import WEIGHT, is_mark, layer_of
from haq.evaluation.engines.onnxruntime.template import Node, Template
from haq.exporters.integer.reading.functions import Function
from haq.exporters.integer.reading.steps import NO_PADDING, RearrangementStep, Step, Value
from haq.quantization.corrections import Corrections

ELSEWHERE = "--format onnx exports it"
"""What helps where a network has no integer form."""
Shape = tuple[int, ...]


class GraphState:
    """Values and steps of the nodes that were read so far.

    Args:
        template: Graph without the quantizers, weights and biases of its layers.
        corrections: Corrections of the policy.

    Attributes:
        template: The template.
        corrections: The corrections.
        values: Values of float tensors by name.
        constants: Constant tensors by name.
        weights: Position of the layer by the name of its weights.
        biases: Names of the layers' biases.
        steps: Steps so far.
    """

    def __init__(self, template: Template, corrections: Corrections) -> None:
        self.template, self.corrections = template, corrections
        graph = template.marked.graph
        source = graph.input[0]
        self.constants: dict[str, NDArray[Any]] = {
            name: numpy_helper.to_array(tensor) for name, tensor in template.constants.items()
        }
        self.weights = {node.output[0]: layer_of(node) for node in template.nodes if is_mark(node, WEIGHT)}
        self.biases = {product.bias_tensor for product in template.products}
        self.values = {source.name: Value(source.name)}
        self.steps: list[Step] = []
        self._shapes = {source.name: dims_of(source)}
        self._described = {value.name: value for value in (*graph.value_info, *graph.output)}
        self._sizes: set[str] = set()
        self._reader_counts = Counter(name for node in template.nodes for name in node.input)

    def shape(self, value: Value) -> Shape:
        """Return the shape of a value.

        Args:
            value: The value.

        Returns:
            Its shape with its padding, without the batch.
        """
        shape = self._shapes[value.root]
        if value.padding == NO_PADDING:
            return shape
        top, left, bottom, right = value.padding
        return (shape[0], shape[1] + top + bottom, shape[2] + left + right)

    def described_shape(self, name: str) -> Shape:
        """Return the shape that the graph states for a tensor.

        Args:
            name: Name of the tensor.

        Returns:
            Its shape without the batch; empty if none is stated.
        """
        return dims_of(self._described[name]) if name in self._described else ()

    def append(self, step: Step, *names: str) -> Value:
        """Add a step.

        Args:
            step: The step.
            *names: Further names of its output.

        Returns:
            Its output.
        """
        self.steps.append(step)
        self._shapes[step.output] = step.shape
        self.values.update(dict.fromkeys((step.output, *names), Value(step.output)))
        return self.values[step.output]

    def is_read_once(self, name: str) -> bool:
        """Return whether one node alone reads a tensor.

        Args:
            name: Name of the tensor.

        Returns:
            True if it does.
        """
        return self._reader_counts[name] == 1

    def plain(self, value: Value) -> Value:
        """Add the padding of a value by a step.

        Args:
            value: The value.

        Returns:
            The same without padding of its own.
        """
        if value.padding == NO_PADDING:
            return value
        top, left, bottom, right = value.padding
        source = replace(value, padding=NO_PADDING)
        return self.padded(source, ((0, 0), (top, bottom), (left, right)))

    def padded(self, source: Value, padding: Iterable[tuple[int, int]], output: str | None = None) -> Value:
        """Add zeros by a step.

        Args:
            source: Value without padding.
            padding: Numbers of (before, after) entries per axis.
            output: Name of the result; a new one if None.

        Returns:
            The result.
        """
        pairs = tuple(padding)
        shape = tuple(size + sum(pair) for size, pair in zip(self.shape(source), pairs, strict=True))
        name = output or f"{source.root}.padded.{len(self.steps)}"
        return self.append(RearrangementStep(operator="pad", output=name, shape=shape, source=source, padding=pairs))

    def flattened(self, source: Value, shape: Shape, output: str) -> Value:
        """Change a shape by a step.

        Args:
            source: Value without padding.
            shape: New shape, without the batch.
            output: Name of the result.

        Returns:
            The result.
        """
        return self.append(RearrangementStep(operator="flatten", output=output, shape=shape, source=source))

    def applied(self, value: Value, function: Function) -> Value:
        """Apply a function to a value.

        Args:
            value: The value.
            function: Function of its entries.

        Returns:
            The result.
        """
        if value.padding != NO_PADDING and not function.keeps_zero:
            value = self.plain(value)
        return Value(value.root, value.function.then(function), value.padding)

    def computes_sizes(self, node: Node) -> bool:
        """Return whether a node computes from constants and sizes alone; its outputs are then known as sizes.

        Args:
            node: The node.

        Returns:
            True if it does.
        """
        known = self._sizes | self.constants.keys()
        if node.op_type != "Shape" and not all(name in known for name in node.input if name):
            return False
        self._sizes.update(node.output)
        return True


def refuse(node: Node, what: str = "") -> NoReturn:
    """Raise UserError for a node without integer form.

    Args:
        node: The node.
        what: What about it, such as " of shapes ...".
    """
    hint = "end the network with the logits, or " if "Softmax" in node.op_type else ""
    raise UserError(
        f"operator {node.op_type}{what} ({node.output[0]}) cannot be computed in integers alone; {hint}{ELSEWHERE}"
    )


def dims_of(value: onnx.ValueInfoProto) -> Shape:
    """Return the shape of a described tensor.

    Args:
        value: Description of the tensor.

    Returns:
        Sizes without the batch; 0 for one that is not constant.
    """
    return tuple(int(dim.dim_value) for dim in value.type.tensor_type.shape.dim[1:])

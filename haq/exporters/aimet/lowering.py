"""Lowering of a template to a float graph without quantizers, and the grids of its tensors.

Batch norm and corrections are in weights and biases. Weights are the values of their codes, so that the grids give the
same codes again, also where they were not rounded to nearest. A quantized activation is the tensor that the layers
read, if nothing else does, as an encoding holds for all readers of a tensor; else it is the output of an Identity.
"""

from collections import defaultdict

import numpy as np
import onnx

from haq.evaluation.engines.onnxruntime.codes import SMALLEST_STEP, Integers, integer_weight
from haq.evaluation.engines.onnxruntime.lowering import Lowering
from haq.evaluation.engines.onnxruntime.marking import INPUT, SECOND_INPUT, is_mark, layer_of, operand_of
from haq.evaluation.engines.onnxruntime.template import Node
from haq.exporters.deployable import Deployable
from haq.quantization.linear import QuantizerParameters
from haq.quantization.operands import OperandKey

Source = tuple[str, str]
"""Tensor before a layer's activation function, and operator of that function; empty for none."""


class FloatLowering(Lowering):
    """Builder of the float graph of a policy.

    Args:
        network: Network with its policy.

    Attributes:
        weights: Integer weights of the layers by position.
        quantizers: Quantizers of the activations that layers read.
        read: Names of these activations.
    """

    def __init__(self, network: Deployable) -> None:
        super().__init__(
            network.template, network.quantizers, network.bits, corrections=network.corrections, fold=False
        )
        self.weights: dict[int, Integers] = {}
        self.quantizers: dict[OperandKey, QuantizerParameters] = {}
        self.read: dict[OperandKey, str] = {}
        self._same: dict[str, str] = {}
        """Tensors that stand for operands of layers, by the output of the mark."""
        self._nodes_reading: defaultdict[Source, list[Node]] = defaultdict(list)
        for node in self._template.nodes:
            for name in node.input:
                self._nodes_reading[name, self._activation(node)].append(node)

    def model(self) -> onnx.ModelProto:
        """Return the graph."""
        self._put_nodes()
        return self._graph.model(self._template.marked.graph.output)

    def _other(self, node: Node) -> None:
        changed = Node()
        changed.CopyFrom(node)
        changed.input[:] = [self._same.get(name, name) for name in node.input]
        self._graph.append(changed)

    def _activation(self, node: Node) -> str:
        """Return the operator of the activation function that a mark includes; empty for none."""
        activation = self._template.activations.get(node.output[0])
        return "" if activation is None else f"{activation.operator} {activation.low} {activation.high}"

    def _input(self, mark: Node) -> None:
        """Add the activation function before a layer, and note the quantizer of its operand."""
        quantizer = self._quantizer(mark)
        if quantizer is None:
            super()._input(mark)
            return
        self._add_float(mark, quantizer)
        self.quantizers[operand_of(mark)] = quantizer
        self.read[operand_of(mark)] = self._same.get(mark.output[0], mark.output[0])

    def _add_float(self, mark: Node, quantizer: QuantizerParameters) -> None:
        """Add the activation function or an Identity where the operand is not a tensor that is there already."""
        source = (mark.input[0], self._activation(mark))
        first = self._first_equal(source, quantizer)
        activation = self._template.activations.get(mark.output[0])
        if first is not None and first.output[0] != mark.output[0]:
            self._same[mark.output[0]] = self._same.get(first.output[0], first.output[0])
        elif activation is not None:
            self._graph.add(activation.operator, [mark.input[0], *activation.inputs], mark.output[0])
        elif first is not None and not self._is_read_elsewhere(mark.input[0]):
            self._same[mark.output[0]] = mark.input[0]
        else:
            self._graph.add("Identity", [mark.input[0]], mark.output[0])

    def _first_equal(self, source: Source, quantizer: QuantizerParameters) -> Node | None:
        """Return the first of the layers' marks that read a tensor and quantize it in the same way."""
        marks = filter(_is_operand, self._nodes_reading[source])
        return next((mark for mark in marks if self._quantizer(mark) == quantizer), None)

    def _is_read_elsewhere(self, name: str) -> bool:
        """Return whether anything but layers with equal quantizers reads a tensor."""
        if name in {value.name for value in self._template.marked.graph.output}:
            return True
        readers = [node for (tensor, _), nodes in self._nodes_reading.items() if tensor == name for node in nodes]
        if not all(map(_is_operand, readers)):
            return True
        return len({(self._activation(node), self._quantizer(node)) for node in readers}) > 1

    def _layer(self, mark: Node) -> None:
        """Add a layer's weights as the values of their codes, and its bias."""
        layer = layer_of(mark)
        product, weight = self._template.products[layer], self._weights[layer]
        affine = self._affine(layer)
        factor = affine.scaling
        self._graph.constant(product.bias_tensor, affine.offset.astype(np.float32))
        if weight is None:
            self._float_weight(mark, product, factor)
            return
        found = integer_weight(weight, factor, fill=False)
        found = Integers(found.codes, np.maximum(found.scale, np.float32(SMALLEST_STEP)), found.axis)
        self.weights[layer] = found.transposed if product.is_transposed else found
        self._graph.constant(mark.output[0], self.weights[layer].values)


def _is_operand(node: Node) -> bool:
    """Return whether a node is the mark of an activation that a layer reads."""
    return is_mark(node, INPUT) or is_mark(node, SECOND_INPUT)

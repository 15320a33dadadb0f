"""A graph while it is put together from a template."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from haq.evaluation.engines.onnxruntime.marking import MARKS, layer_of
from haq.evaluation.engines.onnxruntime.template import Activation, Node, Template
from haq.quantization.linear import QuantizerParameters

SIGNED_OFFSET = 128
"""Signed input codes are stored as unsigned ones with a zero point higher by this: onnxruntime fuses no signed codes
that pass a Clip."""


class Assembly:
    """The nodes of a graph, in order, and its constants; the template's constants are there from the start."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self._nodes: list[Node] = []
        self._constants = dict(template.constants)

    def take(self, node: Node) -> None:
        """A node as it is."""
        self._nodes.append(node)

    def constant(self, name: str, values: Any) -> str:
        """A constant tensor; returns its name."""
        self._constants[name] = numpy_helper.from_array(np.asarray(values), name)
        return name

    def add(self, operator: str, inputs: Sequence[str], output: str, *others: str, **attributes: Any) -> str:
        """A node with one output or several; returns the first."""
        outputs = [output, *others]
        self._nodes.append(helper.make_node(operator, inputs, outputs, name=f"{output}/{operator}", **attributes))
        return output

    def put_input(self, mark: Node, quantizer: QuantizerParameters | None) -> None:
        """The quantizer of a layer's input, which also does what the activation before it did."""
        if quantizer is None:
            activation = self._template.activations.get(mark.output[0])
            operator, others = ("Identity", []) if activation is None else (activation.operator, activation.inputs)
            self.add(operator, [mark.input[0], *others], mark.output[0])
            return
        codes, *parts = self._codes(mark, quantizer, source=mark.input[0], name=self._input_name(mark))
        self.add("DequantizeLinear", [codes, *parts], mark.output[0])

    def cut_input(self, mark: Node, quantizer: QuantizerParameters) -> str:
        """The quantizer of a layer's input twice: at the end of what comes before, and of a tensor that is given.

        The layer reads the given tensor, `LAYER.input.given`. Returns the name of the codes at the end.
        """
        name = self._input_name(mark)
        found, *_ = self._codes(mark, quantizer, source=mark.input[0], name=f"{name}.found")
        codes, *parts = self._codes(mark, quantizer, source=f"{name}.given", name=name)
        self.add("DequantizeLinear", [codes, *parts], mark.output[0])
        return found

    def _input_name(self, mark: Node) -> str:
        return f"{self._template.products[layer_of(mark)].name}.input"

    def _codes(self, mark: Node, quantizer: QuantizerParameters, *, source: str, name: str) -> tuple[str, str, str]:
        """The codes of a tensor; returns their name, and those of scale and zero point."""
        offset = code_offset(quantizer)
        scale = self.constant(f"{name}.scale", np.float32(quantizer.scale))
        zero_point = self.constant(f"{name}.zero_point", np.uint8(quantizer.zero_point + offset))
        codes = self.add("QuantizeLinear", [source, scale, zero_point], f"{name}.rounded")
        activation = self._template.activations.get(mark.output[0])
        low, high = (bound + offset for bound in _code_bounds(quantizer, activation))
        if (low, high) != (0, 255):
            bounds = [self.constant(f"{name}.q_{end}", np.uint8(x)) for end, x in (("min", low), ("max", high))]
            codes = self.add("Clip", [codes, *bounds], f"{name}.codes")
        return codes, scale, zero_point

    def model(
        self,
        outputs: Iterable[onnx.ValueInfoProto],
        functions: Sequence[onnx.FunctionProto] = (),
        *,
        more_inputs: Iterable[onnx.ValueInfoProto] = (),
    ) -> onnx.ModelProto:
        """The graph of these outputs, with nothing that they do not depend on; `functions` are those of our domain.

        `more_inputs` are read beside the network's own.
        """
        outputs, marked = list(outputs), self._template.marked
        nodes, read = _needed(self._nodes, (value.name for value in outputs))
        constants = [tensor for name, tensor in self._constants.items() if name in read]
        graph = helper.make_graph(nodes, "haq", [*marked.graph.input, *more_inputs], outputs, constants)
        opsets = [opset for opset in marked.opset_import if functions or opset.domain != MARKS]
        return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=marked.ir_version)


def code_offset(quantizer: QuantizerParameters) -> int:
    """What stored input codes are higher by than the quantizer's."""
    return SIGNED_OFFSET if quantizer.q_min < 0 else 0


def _code_bounds(quantizer: QuantizerParameters, activation: Activation | None) -> tuple[int, int]:
    """The lowest and the highest code of an input, without those that the activation before it rules out."""
    low, high = quantizer.q_min, quantizer.q_max
    if activation is None:
        return low, high
    scale = np.float32(quantizer.scale)
    lowest, highest = (np.rint(np.float32(x) / scale) + quantizer.zero_point for x in (activation.low, activation.high))
    return int(max(low, lowest)), int(min(high, highest))


def _needed(nodes: Sequence[Node], outputs: Iterable[str]) -> tuple[list[Node], set[str]]:
    """The nodes that the outputs depend on, and the names that these read."""
    kept, read = [], set(outputs)
    for node in reversed(nodes):
        if not read.isdisjoint(node.output):
            kept.append(node)
            read.update(node.input)
    return kept[::-1], read

"""Reasons why onnxruntime computes a layer in floats, read from the exported graph."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import onnx

from haq.layer_bits import LayerBits

_PASSED_ON = ("Relu", "Clip", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "MaxPool", "Identity")
"""Operators after which the next one is the reason."""
_WORDS: Mapping[str, str] = {
    "Add": "added",
    "Sub": "subtracted",
    "Mul": "multiplied",
    "Div": "divided",
    "Concat": "concatenated",
    "Pad": "padded",
    "Split": "split",
    "Slice": "split",
    "Resize": "resized",
    "ReduceMean": "averaged",
    "GlobalAveragePool": "averaged",
    "AveragePool": "averaged",
    "BatchNormalization": "normalized",
    "LayerNormalization": "normalized",
    "InstanceNormalization": "normalized",
}
"""What operators do to the output of a layer."""
_OPERATORS: Mapping[str, str] = {
    "ConvTranspose": "there is no integer kernel for transposed convolutions",
    "Einsum": "there is no integer kernel for Einsum",
    "Gather": "values are looked up, not multiplied",
}
"""Operators that have no integer kernel."""


class FloatReasons:
    """Reasons for layers of one exported graph.

    Args:
        graph: Graph with the names of `haq.exporters.onnx.names`.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._outputs = {value.name for value in graph.output}
        self._readers: defaultdict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self._readers[name].append(node)

    def find(self, layer: LayerBits) -> str:
        """Return the reason why a layer has no integer kernel.

        Args:
            layer: Layer with its bits.

        Returns:
            The reason, in one line.
        """
        second = self._readers[f"{layer.name}.second_input"]
        product = next(iter(second or self._readers[f"{layer.name}.weight"]), None)
        if layer.w_bits is None:
            return "its second operand is in float" if second else "its weights are in float"
        if product is not None and product.op_type in _OPERATORS:
            return _OPERATORS[product.op_type]
        if layer.a_bits is None:
            return "its input is in float"
        return "its shape has no integer kernel" if product is None else self._of_output(product)

    def _of_output(self, product: onnx.NodeProto) -> str:
        readers = list(self._after(product.output[0]))
        if "" in readers:
            return "its output is one of the network, in float"
        others = [name for name in readers if name != "QuantizeLinear"]
        if others:
            return f"its output is {_listed(others)} in float"
        if len(readers) > 1:
            return "its output is quantized differently by several layers"
        return f"onnxruntime has no integer kernel for this {product.op_type}"

    def _after(self, tensor: str) -> Iterator[str]:
        """Yield the operators that read a tensor, past those that only pass it on; "" for an output of the network."""
        if tensor in self._outputs:
            yield ""
        for node in self._readers[tensor]:
            is_bias = node.op_type == "Add" and any(name.endswith(".bias") for name in node.input)
            if node.op_type in _PASSED_ON or is_bias:
                yield from self._after(node.output[0])
            else:
                yield node.op_type


def _listed(operators: Sequence[str]) -> str:
    """Return what operators do, such as "added" or "passed through Sigmoid and multiplied"."""
    words = [_WORDS.get(name, f"passed through {name}") for name in dict.fromkeys(operators)]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"

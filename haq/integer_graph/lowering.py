"""From the marked float graph to the graph of a policy: quantizers in place of the marks.

An input becomes QuantizeLinear, Clip on the codes, DequantizeLinear; weights become int8 codes with one scale a channel
behind a DequantizeLinear. These are the patterns that runtimes turn into integer kernels: codes of 2 to 8 bits all live
in 8-bit containers. Batch norm that follows a quantized layer is folded into its scales and its bias after quantizing,
so that the numbers stay those of fake quantization with the batch norm apart.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from haq.evaluation import PolicyBits
from haq.integer_graph.marking import INPUT, MARKS, WEIGHT, layer_of
from haq.layers import Trace
from haq.quantized_model import Quantizers
from haq.quantizers.linear import QuantizerParameters
from hardware_sim.cost import Bits

Array = NDArray[np.generic]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """What is done to every channel of a layer's output: output * factor + offset, float32 [c_out] each."""

    factor: Floats
    offset: Floats

    def then(self, following: "Affine") -> "Affine":
        """Both, one after the other."""
        return Affine(self.factor * following.factor, self.offset * following.factor + following.offset)


NO_CORRECTIONS: Mapping[int, Affine] = {}


class MarkedGraph:
    """A marked graph with all that does not depend on a policy found out."""

    def __init__(self, proto: onnx.ModelProto, trace: Trace) -> None:
        self.proto, self.trace = proto, trace
        self.initializers = {tensor.name: tensor for tensor in proto.graph.initializer}
        self.weights = {node.output[0]: layer_of(node) for node in proto.graph.node if _is_mark(node, WEIGHT)}

    def array(self, name: str) -> Array | None:
        """The value of a constant; None for what is computed."""
        tensor = self.initializers.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)


def _is_mark(node: onnx.NodeProto, name: str) -> bool:
    return node.domain == MARKS and node.op_type == name

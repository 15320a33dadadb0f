"""Lowering to the graph that is exported: the one that the search evaluates, with all weights stored as integers.

The engine stores the weights of layers without integer kernel as floats, since onnxruntime would dequantize them at
every run. Here they are codes that a Cast and a Mul turn into the same floats: onnxruntime computes constant Casts and
Muls once, when it opens the graph, and so runs the same kernels on the same numbers.
"""

import numpy as np
from onnx import TensorProto

from haq.evaluation.engines.onnxruntime.codes import Integers, align_channels
from haq.evaluation.engines.onnxruntime.lowering import Lowering
from haq.evaluation.engines.onnxruntime.template import Template
from haq.exporters.onnx.narrow import NarrowCodes, Width, narrowed
from haq.policy import PolicyBits
from haq.quantization.corrections import Corrections
from haq.quantization.quantizers import Quantizers


class StoredLowering(Lowering):
    """Builder of the exported graph of one policy.

    Args:
        template: Graph without the quantizers, weights and biases of its layers.
        quantizers: Quantizers of weights and activations.
        bits: (w_bits, a_bits) of every layer.
        corrections: Corrections of the policy.
        widths: Widths in which weights may be stored, such as (4, 8); the narrowest that fits is used.

    Attributes:
        stored: Stored weights of each quantized layer, by its name.
    """

    def __init__(
        self,
        template: Template,
        quantizers: Quantizers,
        bits: PolicyBits,
        *,
        corrections: Corrections,
        widths: tuple[Width, ...] = (8,),
    ) -> None:
        super().__init__(template, quantizers, bits, corrections=corrections, fold=True)
        self._widths = widths
        self.stored: dict[str, NarrowCodes] = {}

    def _put_weight(self, layer: str, codes: Integers, output: str, *, is_folded: bool) -> None:
        name = f"{layer}.weight"
        found = narrowed(codes.codes, self._widths)
        self.stored[layer] = found
        source = self._graph.tensor(found.tensor(codes_tensor(layer)))
        if is_folded:
            floats = self._graph.add("Cast", [source], f"{name}.floats", to=TensorProto.FLOAT)
            scale = align_channels(codes.scale * np.float32(found.factor), codes.codes.ndim, codes.axis)
            self._graph.add("Mul", [floats, self._graph.constant(f"{name}.scale", scale)], output)
            return
        if found.width != 8:
            source = self._widened(name, source, factor=found.factor)
        self._graph.add("DequantizeLinear", [source, *self._scales(name, codes)], output, axis=codes.axis)

    def _widened(self, name: str, source: str, *, factor: int) -> str:
        """Add the multiplication of narrow codes by a power of two, and return the name of the int8 codes."""
        if factor != 1:
            whole = self._graph.add("Cast", [source], f"{name}.whole", to=TensorProto.INT32)
            source = self._graph.add(
                "Mul", [whole, self._graph.constant(f"{name}.factor", np.int32(factor))], f"{name}.shifted"
            )
        return self._graph.add("Cast", [source], f"{name}.wide", to=TensorProto.INT8)


def codes_tensor(layer: str) -> str:
    """Return the name of the tensor with the stored weights of a layer.

    Args:
        layer: Name of the layer.

    Returns:
        Name of the tensor.
    """
    return f"{layer}.weight.codes"

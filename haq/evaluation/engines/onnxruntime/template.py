"""Template: the marked graph of a network without what a policy adds, prepared once for all policies."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import Tensor

from haq.network.layer_calls import NormCall
from haq.quantization.corrections import Corrections
from haq.quantization.moments import Moments

Floats = NDArray[np.float64]
Node = onnx.NodeProto


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """Per-channel affine function of a layer's output: output * factor + offset.

    Attributes:
        factor: [c_out].
        offset: [c_out].
    """

    factor: Floats
    offset: Floats

    @property
    def scaling(self) -> Floats | None:
        """The factors; None if all are 1."""
        return None if (self.factor == 1).all() else self.factor


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """Batch norm that follows a layer.

    Attributes:
        name: Path of the running mean, and the number of the call.
        gamma: Weight, [c_out].
        beta: Bias, [c_out].
        mean: Running mean, [c_out].
        variance: Running variance, [c_out].
        epsilon: Number added to the variance.
    """

    name: NormCall
    gamma: Floats
    beta: Floats
    mean: Floats
    variance: Floats
    epsilon: float

    def affine(self, moments: Moments | None = None) -> Affine:
        """Return the batch norm as an affine function.

        Args:
            moments: Mean and variance, [c_out] each; the running statistics if None.

        Returns:
            The affine function.
        """
        mean, variance = (self.mean, self.variance) if moments is None else (x.double().numpy() for x in moments)
        factor = self.gamma / np.sqrt(variance + self.epsilon)
        return Affine(factor, self.beta - mean * factor)


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """Multiplication of a layer with its weights in the graph.

    Attributes:
        name: Name of the layer.
        operator: Conv, ConvTranspose, Gemm, MatMul or Gather.
        bias: Bias of the layer, [c_out].
        norm: Batch norm that followed the layer, removed from the graph.
        is_transposed: Whether the graph reads the weights transposed.
        rank: Number of dimensions of the weights.
        output: Name of the tensor after product, bias and batch norm.
        has_weights: Whether the second factor is weights; if not, there is no bias and no batch norm.
        pads: Zeros of the network around the layer's input that the layer adds itself in the graph: of all spatial axes
            before, then after; empty if there are none.
    """

    name: str
    operator: str
    bias: Floats
    norm: Norm | None
    is_transposed: bool
    rank: int
    output: str
    has_weights: bool = True
    pads: tuple[int, ...] = ()

    def read(self, given: Tensor) -> Tensor:
        """Return the part of the network's input of the layer that the layer reads in the graph.

        Args:
            given: First operand in the network, [n, c_in, ...] where there are pads.

        Returns:
            The operand without the zeros that the layer adds itself.
        """
        half = len(self.pads) // 2
        for axis, (before, after) in enumerate(zip(self.pads[:half], self.pads[half:], strict=True), start=2):
            given = given.narrow(axis, before, given.shape[axis] - before - after)
        return given

    @property
    def bias_tensor(self) -> str:
        """Name of the bias, which the graph reads and a policy supplies."""
        return f"{self.name}.bias"

    def affine(self, layer: int, corrections: Corrections) -> Affine:
        """Return bias, corrections and batch norm as one affine function.

        Args:
            layer: Position of the layer.
            corrections: Corrections of the policy.

        Returns:
            The affine function.
        """
        scale, added = corrections.scales.get(layer), corrections.biases.get(layer)
        factor = np.ones_like(self.bias) if scale is None else scale.double().numpy(force=True)
        bias = self.bias * factor if added is None else self.bias * factor + added.double().numpy(force=True)
        if self.norm is None:
            return Affine(factor, bias)
        norm = self.norm.affine(corrections.statistics.get(self.norm.name))
        return Affine(factor * norm.factor, bias * norm.factor + norm.offset)


@dataclass(frozen=True, slots=True, eq=False)
class Activation:
    """ReLU, ReLU6 or other clip that only inputs of layers read; it is removed from the graph.

    Rounding is monotone, so clipping codes gives exactly the same result, and the operators before it can become an
    integer kernel.

    Attributes:
        operator: Relu or Clip.
        inputs: Names of the inputs after the first.
        low: Lower bound of the output.
        high: Upper bound of the output.
    """

    operator: str
    inputs: tuple[str, ...]
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """Graph without the quantizers, weights and biases of its layers.

    Attributes:
        marked: The marked graph, with the same inputs, outputs and versions.
        nodes: Nodes in order.
        constants: Constant tensors by name.
        products: Multiplications of the layers, in the order of the trace.
        activations: Removed activation functions, by the output of the mark that followed.
        next_layers: By the output of a layer: the layers that alone read it, or the one that alone reads it after ReLU,
            pooling or reshaping; empty if something else reads it.
    """

    marked: onnx.ModelProto
    nodes: tuple[Node, ...]
    constants: Mapping[str, onnx.TensorProto]
    products: tuple[Product, ...]
    activations: Mapping[str, Activation]
    next_layers: Mapping[str, tuple[int, ...]]

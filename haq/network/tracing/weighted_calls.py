"""Calls that multiply an input with weights, and the parts of parameters that they multiply with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from haq.network.tracing.recurrence import step_product
from hardware_sim.layer import LayerKind


@dataclass(frozen=True, slots=True)
class Operation:
    """Function of torch that multiplies an input with weights.

    Attributes:
        kind: Kind of layer.
        spatial_dims: Number of spatial dimensions.
        parameters: Names of the positional parameters.
    """

    kind: LayerKind
    spatial_dims: int = 0
    parameters: tuple[str, ...] = ("input", "weight", "bias")


_EMBEDDING = ("input", "weight", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq", "sparse")
_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_CONV_TRANSPOSE = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")

OPERATIONS: Mapping[Callable[..., Any], Operation] = {
    F.linear: Operation("linear"),
    F.embedding: Operation("embedding", 0, _EMBEDDING),
    step_product: Operation("recurrent", 0, ("input", "weight", "bias", "step")),
    torch.conv1d: Operation("conv", 1, _CONV),
    torch.conv2d: Operation("conv", 2, _CONV),
    torch.conv3d: Operation("conv", 3, _CONV),
    torch.conv_transpose1d: Operation("conv_transpose", 1, _CONV_TRANSPOSE),
    torch.conv_transpose2d: Operation("conv_transpose", 2, _CONV_TRANSPOSE),
    torch.conv_transpose3d: Operation("conv_transpose", 3, _CONV_TRANSPOSE),
}


@dataclass(frozen=True, slots=True)
class Call:
    """Call of an operation.

    Attributes:
        function: Function of torch.
        operation: Its description.
        arguments: Arguments by name; the operands are `input` and `weight`, also where the second is an activation.
    """

    function: Callable[..., Any]
    operation: Operation
    arguments: Mapping[str, Any]

    @property
    def input(self) -> Tensor:
        """Input of the multiplication."""
        return self.arguments["input"]  # type: ignore[no-any-return]

    @property
    def factor(self) -> Tensor:
        """What the input is multiplied with: weights, or the second operand of a product of two activations."""
        return self.arguments["weight"]  # type: ignore[no-any-return]

    @property
    def has_weights(self) -> bool:
        """Whether it multiplies with weights, not with a second activation."""
        return self.operation.kind != "matmul"

    @property
    def continues(self) -> bool:
        """Whether it is a later step of a recurrent layer's call, which belongs to the layer of the first step."""
        return int(self.arguments.get("step", 0)) > 0

    def run(self, input: Tensor, factor: Tensor) -> Tensor:  # noqa: A002
        """Run the call with other operands.

        Args:
            input: Input.
            factor: Weights, or the second operand of a product of two activations.

        Returns:
            Result of the call.
        """
        return self.function(**{**self.arguments, "input": input, "weight": factor})  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class WeightSlice:
    """Parameter, or the part of it that a call multiplies with.

    Attributes:
        parameter: Name of the parameter.
        offset: Position of the first element in the flattened parameter.
        shape: Shape of the part, as the call multiplies with it.
        is_transposed: Whether the parameter stores the part transposed: [inputs, outputs] for a linear layer.
    """

    parameter: str
    offset: int
    shape: tuple[int, ...]
    is_transposed: bool = False

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of the part in the parameter."""
        return self.shape[::-1] if self.is_transposed else self.shape

    def of(self, parameter: Tensor) -> Tensor:
        """Return the part of a parameter, in the shape that the call multiplies with.

        Args:
            parameter: The parameter.

        Returns:
            The part; a view if the parameter is contiguous.

        Examples:
            >>> WeightSlice("w", 2, (1, 2), is_transposed=True).of(torch.arange(6).view(3, 2))
            tensor([[2, 3]])
        """
        stored = self.stored_shape
        if tuple(parameter.shape) != stored:
            parameter = parameter.flatten()[self.offset : self.offset + prod(stored)].view(stored)
        return parameter.t() if self.is_transposed else parameter


def is_layer(call: Call, weights: WeightSlice | None) -> bool:
    """Return whether a call has a quantized form.

    Args:
        call: Call of an operation.
        weights: Part of a parameter that it multiplies with; None for computed weights.

    Returns:
        True if it has.
    """
    return weights is not None and call.factor.ndim > 1 and call.operation.spatial_dims <= 2


class WeightIndex:
    """Index of the parameters of a network by tensor.

    Args:
        model: Network.
    """

    def __init__(self, model: nn.Module) -> None:
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}

    def name(self, tensor: Tensor) -> str | None:
        """Return the parameter that a tensor is, or is any view of.

        Args:
            tensor: Any tensor.

        Returns:
            Name of the parameter; None for other tensors.
        """
        return self._names.get(id(tensor)) or self._names.get(id(tensor._base))

    def find(self, weight: Tensor) -> WeightSlice | None:
        """Return the part of a parameter that a tensor is.

        Args:
            weight: Weights of a call.

        Returns:
            The part; None for a tensor that is computed while the network runs, or not a part of consecutive elements.
        """
        name = self.name(weight)
        if name is None:
            return None
        if id(weight) in self._names:
            return WeightSlice(name, 0, tuple(weight.shape))
        parameter = weight._base
        if parameter is None or not parameter.is_contiguous():
            return None
        is_column = 1 in weight.shape and tuple(weight.shape) == tuple(parameter.shape)[::-1]
        is_transposed = weight.ndim == 2 and (is_column or not weight.is_contiguous())
        if not (weight.t() if is_transposed else weight).is_contiguous():
            return None
        offset = int(weight.storage_offset() - parameter.storage_offset())
        return WeightSlice(name, offset, tuple(weight.shape), is_transposed)

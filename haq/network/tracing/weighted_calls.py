"""Function mode that sees, and can replace, every multiplication with weights while a network runs.

A module's own forward, a parent that calls `F.linear` with a child's weight, a module that is used twice: all end in
one of a few functions of torch. A torch function mode sees these calls, so networks are neither rewritten nor modified.
Attention and recurrent layers, which torch computes in one function, are decomposed while the mode is active.
"""

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Self

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from haq.network.tracing.recurrence import STEP_BY_STEP, step_product
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
PRODUCTS: Mapping[Callable[..., Any], str] = {
    F.scaled_dot_product_attention: "attention",
    F.bilinear: "a bilinear form",
    F.embedding_bag: "a bag of embeddings",
    torch.matmul: "matmul",
    Tensor.matmul: "matmul",
    Tensor.__matmul__: "matmul",
    Tensor.__rmatmul__: "matmul",
    torch.mm: "matmul",
    Tensor.mm: "matmul",
    torch.addmm: "matmul",
    Tensor.addmm: "matmul",
    torch.bmm: "matmul",
    Tensor.bmm: "matmul",
    torch.baddbmm: "matmul",
    Tensor.baddbmm: "matmul",
    torch.einsum: "einsum",
    torch.tensordot: "tensordot",
}
"""Products that stay in float, whether of two activations or with weights."""


@dataclass(frozen=True, slots=True)
class Call:
    """Call of an operation.

    Attributes:
        function: Function of torch.
        operation: Its description.
        arguments: Arguments by name.
    """

    function: Callable[..., Any]
    operation: Operation
    arguments: Mapping[str, Any]

    @property
    def input(self) -> Tensor:
        """Input of the multiplication."""
        return self.arguments["input"]  # type: ignore[no-any-return]

    @property
    def weight(self) -> Tensor:
        """Weights of the multiplication."""
        return self.arguments["weight"]  # type: ignore[no-any-return]

    @property
    def continues(self) -> bool:
        """Whether it is a later step of a recurrent layer's call, which belongs to the layer of the first step."""
        return int(self.arguments.get("step", 0)) > 0

    def run(self, input: Tensor, weight: Tensor) -> Tensor:  # noqa: A002
        """Run the call with another input and other weights.

        Args:
            input: Input.
            weight: Weights.

        Returns:
            Result of the call.
        """
        return self.function(**{**self.arguments, "input": input, "weight": weight})  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class WeightSlice:
    """Parameter, or the part of it that a call multiplies with.

    Attributes:
        parameter: Name of the parameter.
        offset: Position of the first element in the flattened parameter.
        shape: Shape of the part.
    """

    parameter: str
    offset: int
    shape: tuple[int, ...]


def is_layer(call: Call, weights: WeightSlice | None) -> bool:
    """Return whether a call has a quantized form.

    Args:
        call: Call of an operation.
        weights: Part of a parameter that it multiplies with; None for computed weights.

    Returns:
        True if it has.
    """
    return weights is not None and call.weight.ndim > 1 and call.operation.spatial_dims <= 2


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
            The part; None for a tensor that is computed or transposed while the network runs.
        """
        name = self.name(weight)
        if name is None:
            return None
        if id(weight) in self._names:
            return WeightSlice(name, 0, tuple(weight.shape))
        parameter = weight._base
        if parameter is None or not (weight.is_contiguous() and parameter.is_contiguous()):
            return None
        return WeightSlice(name, int(weight.storage_offset() - parameter.storage_offset()), tuple(weight.shape))


class WeightedCalls(TorchFunctionMode):
    """Function mode that passes calls of operations to `weighted`, and all other calls to `other`.

    While it is active, compiled functions run eagerly, so that their calls are seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self._stances: list[AbstractContextManager[Any]] = []

    def __enter__(self) -> Self:
        self._stances.append(_uncompiled())
        self._stances[-1].__enter__()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._stances.pop().__exit__(*error)

    def weighted(self, call: Call) -> Tensor:
        """Handle a call of an operation; the default runs it unchanged.

        Args:
            call: Call with its arguments.

        Returns:
            Result of the call.
        """
        return call.run(call.input, call.weight)

    def other(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Handle any other call of torch; the default runs it unchanged.

        Args:
            function: Function of torch.
            args: Positional arguments.
            kwargs: Keyword arguments.

        Returns:
            Result of the call.
        """
        return function(*args, **kwargs)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DECOMPOSED:
            with self:
                return _DECOMPOSED[func](*args, **kwargs)
        operation = OPERATIONS.get(func)
        if operation is None:
            return self.other(func, args, kwargs)
        return self.weighted(Call(func, operation, {**dict(zip(operation.parameters, args, strict=False)), **kwargs}))


def _uncompiled() -> AbstractContextManager[Any]:
    """Return a context in which compiled functions run eagerly; no effect if the compiler was never imported."""
    if "torch._dynamo" not in sys.modules or torch.compiler.is_compiling():
        return nullcontext()
    eager: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return eager


def _without_override_check(function: Callable[..., Any]) -> FunctionType:
    """Return a copy of a function that ignores the active mode, so that the mode sees the calls inside it."""
    assert isinstance(function, FunctionType), "torch writes it in Python"
    blind = {**function.__globals__, "has_torch_function": lambda _: False}
    copy = FunctionType(function.__code__, blind, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


_DECOMPOSED: Mapping[Callable[..., Any], Callable[..., Any]] = {
    F.multi_head_attention_forward: _without_override_check(F.multi_head_attention_forward),
    **STEP_BY_STEP,
}
"""Functions that compute the same in calls that the mode sees."""

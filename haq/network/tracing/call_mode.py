"""Function mode that sees, and can replace, the multiplications of a network while it runs.

A module's own forward, a parent that calls `F.linear` with a child's weight, a module that is used twice: all end in
one of a few functions of torch. A torch function mode sees these calls, so networks are neither rewritten nor modified.
Attention and recurrent layers, which torch computes in one function, are decomposed while the mode is active.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from types import FunctionType
from typing import Any, Self

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.overrides import TorchFunctionMode

from haq.network.tracing.attention import PV, QK, attend, can_attend
from haq.network.tracing.products import ActivationProduct, linear_call, product_call
from haq.network.tracing.recurrence import STEP_BY_STEP
from haq.network.tracing.running_modules import RunningModules
from haq.network.tracing.weighted_calls import OPERATIONS, Call, WeightIndex


class MultiplicationMode(TorchFunctionMode):
    """Function mode that passes multiplications with weights to `weighted`, products of activations to `multiplied`.

    While it is active, compiled functions run eagerly, so that their calls are seen.

    Args:
        modules: Running modules, which are observed while the mode is active, so that products of activations have a
            place; if None, these products, and attention with them, run as they are.
        weights: Index of the parameters, so that products with a matrix of weights are passed to `weighted` as linear
            layers; if None, they are not.
    """

    def __init__(self, modules: RunningModules | None = None, *, weights: WeightIndex | None = None) -> None:
        super().__init__()
        self._modules, self._weights = modules, weights
        self._contexts: list[ExitStack] = []
        self._roles: Iterator[str] = iter(())
        """Names of the next products of attention."""

    def __enter__(self) -> Self:
        contexts = ExitStack()
        contexts.enter_context(_uncompiled())
        # Decompositions enter the mode again; modules are observed once.
        if self._modules is not None and not self._contexts:
            contexts.enter_context(self._modules)
        self._contexts.append(contexts)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._contexts.pop().__exit__(*error)

    def weighted(self, call: Call) -> Tensor:
        """Handle a multiplication with weights; the default runs it unchanged.

        Args:
            call: Call with its arguments.

        Returns:
            Result of the call.
        """
        return call.run(call.input, call.factor)

    def multiplied(self, product: ActivationProduct, call: Call) -> Tensor:  # noqa: ARG002
        """Handle a product that may be one of two activations; the default runs it unchanged.

        Args:
            product: Place of the product.
            call: Call with its arguments.

        Returns:
            Result of the call.
        """
        return call.run(call.input, call.factor)

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
        decomposed = self._decomposed(func, args, kwargs)
        if decomposed is not None:
            with self, self._named_products(func):
                return decomposed(*args, **kwargs)
        operation = OPERATIONS.get(func)
        if operation is not None:
            arguments = {**dict(zip(operation.parameters, args, strict=False)), **kwargs}
            return self.weighted(Call(func, operation, arguments))
        read = product_call(func, args, kwargs)
        linear = self._linear(read[1]) if read else None
        if linear is not None:
            return self.weighted(linear)
        if read is None or self._modules is None:
            return self.other(func, args, kwargs)
        operator, call = read
        role = next(self._roles, operator) if operator in _IN_ATTENTION else operator
        return self.multiplied(self._modules.place(role), call)

    def _linear(self, product: Call) -> Call | None:
        """Return a product with a matrix of weights as a linear layer; None for other products."""
        has_weights = self._weights is not None and self._weights.name(product.factor) is not None
        return linear_call(product) if has_weights else None

    def _decomposed(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Callable[..., Any] | None:
        """Return a function that computes the same in calls that the mode sees; None to call it as it is."""
        if function is F.scaled_dot_product_attention:
            return attend if self._modules is not None and can_attend(args, kwargs) else None
        return _DECOMPOSED.get(function)

    @contextmanager
    def _named_products(self, function: Callable[..., Any]) -> Iterator[None]:
        """Name the products that torch's multi-head attention computes by `bmm` where it returns its weights."""
        if function is F.multi_head_attention_forward:
            self._roles = iter((QK, PV))
        try:
            yield
        finally:
            if function is F.multi_head_attention_forward:
                self._roles = iter(())


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


_IN_ATTENTION = ("bmm", "baddbmm")
_DECOMPOSED: Mapping[Callable[..., Any], Callable[..., Any]] = {
    F.multi_head_attention_forward: _without_override_check(F.multi_head_attention_forward),
    **STEP_BY_STEP,
}
"""Functions that compute the same in calls that the mode sees."""

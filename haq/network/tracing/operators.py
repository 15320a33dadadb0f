"""Trace of the operators that a network runs, below torch's functions: products, and the readers of each parameter.

A function mode sees what Python calls. Operators that TorchScript, a composite function of torch or a C++ extension
calls are seen by a dispatch mode only, and cannot be replaced there: their products stay in float and are reported.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from haq.execution.structures import tensors


@dataclass(frozen=True, slots=True)
class Product:
    """Product computed by an operator on one item.

    Attributes:
        operator: Name of the operator.
        macs: Multiply-accumulates.
        parameters: Parameters that it multiplied with, as they are or after something was computed from them alone;
            those of most dimensions first.
        module: Path of the module that was running.
    """

    operator: str
    macs: int
    parameters: tuple[str, ...]
    module: str


class OperatorCalls(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch writes its hook without types
    """Dispatch mode that records all products, and which operators read which parameters.

    Operators that are not called through a torch function, such as those of TorchScript, are called as torch functions
    here, so that an active function mode sees them.

    Args:
        model: Network that is traced.
        running: Function that returns the path of the running module.

    Attributes:
        products: Products in order.
        readers: Operators that read a parameter, by its name.
    """

    supports_higher_order_operators = True

    def __init__(self, model: nn.Module, running: Callable[[], str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.products: list[Product] = []
        self.readers: defaultdict[str, list[str]] = defaultdict(list)
        """The operators that read a parameter, by the parameter's name."""
        self._running = running
        self._parameters: defaultdict[int, list[tuple[int, int, str]]] = defaultdict(list)
        self._order: dict[str, tuple[int, str]] = {}
        # Tensors that do not depend on the input, and the parameters that they depend on; references prevent the reuse
        # of ids.
        self._fixed: dict[int, tuple[Tensor, frozenset[str]]] = {}
        for name, parameter in model.named_parameters():
            if not is_lazy(parameter):
                self._parameters[storage_of(parameter)].append((*_span(parameter), name))
                self._order[name] = (-parameter.ndim, name)
        for buffer in model.buffers():
            self._fixed[storage_of(buffer)] = (buffer, frozenset())

    def pop_products(self, first: int) -> list[Product]:
        """Remove the products from a position on, which the caller accounts for.

        Args:
            first: Position of the first product to remove.

        Returns:
            The removed products.
        """
        taken = self.products[first:]
        del self.products[first:]
        return taken

    def depends_on_input(self, tensor: Tensor) -> bool:
        """Return whether a tensor depends on the input of the network, not on parameters and constants alone.

        Args:
            tensor: Any tensor.

        Returns:
            True if it does.
        """
        return self._sources(tensor) is None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if hasattr(func, "decompose") and _formula(func) is None:  # a composite function, in inference mode
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            self._note(func, args, kwargs, result)
        return result

    def _note(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        operands = list(tensors((args, kwargs)))
        sources = [self._sources(tensor) for tensor in operands]
        names = sorted({name for source in sources if source for name in source}, key=self._order.__getitem__)
        operator, formula = _name(func), _formula(func)
        if formula is not None:
            self.products.append(Product(operator, formula(args, kwargs, result), tuple(names), self._running()))
        outputs = list(tensors(result))
        stored = {storage_of(tensor) for tensor in outputs}
        if stored.isdisjoint(map(storage_of, operands)):  # no view
            for name in names:
                self.readers[name].append(operator)
        for tensor in outputs:
            if None in sources:
                self._fixed.pop(storage_of(tensor), None)
            elif storage_of(tensor) not in self._parameters:
                self._fixed[storage_of(tensor)] = (tensor, frozenset(names))

    def _sources(self, tensor: Tensor) -> frozenset[str] | None:
        """Return the parameters that a tensor views or was computed from; None if it depends on the input."""
        storage = storage_of(tensor)
        if storage in self._parameters:
            start, end = _span(tensor)
            parts = self._parameters[storage]
            return frozenset(name for first, last, name in parts if first < end and start < last)
        return self._fixed[storage][1] if storage in self._fixed else None


Formula = Callable[[tuple[Any, ...], Mapping[str, Any], Any], int]
"""Function that computes the multiply-accumulates of a product from its arguments and its result."""


def _formula(func: Any) -> Formula | None:
    """Return the formula of an operator, torch's own if it has one; None if it is not a product."""
    packet = getattr(func, "overloadpacket", func)
    if packet in flop_registry:
        return lambda args, kwargs, result: int(flop_registry[packet](*args, **kwargs, out_val=result)) // 2
    return _FORMULAS.get(str(packet))


def _attention(args: tuple[Any, ...], _: Mapping[str, Any], __: Any) -> int:
    return int(sdpa_flop_count(*(tuple(tensor.shape) for tensor in args[:3]))) // 2  # type: ignore[no-untyped-call]


_FORMULAS: Mapping[str, Formula] = {
    "aten.dot": lambda args, _, __: int(args[0].numel()),
    "aten.vdot": lambda args, _, __: int(args[0].numel()),
    "aten.mv": lambda args, _, __: int(args[0].numel()),
    "aten.addmv": lambda args, _, __: int(args[1].numel()),
    "aten.addbmm": lambda args, _, __: int(args[1].numel() * args[2].shape[-1]),
    "aten._trilinear": lambda args, _, __: int(args[0].shape[0] * args[1].numel()),
    "aten._scaled_dot_product_flash_attention_for_cpu": _attention,
    "aten._scaled_dot_product_fused_attention_overrideable": _attention,
    "torchvision.deform_conv2d": lambda args, _, result: int(result.numel() * prod(args[1].shape[1:])),
}
"""Formulas of products that torch's FLOP counter does not know."""


def _name(func: Any) -> str:
    return str(getattr(func, "overloadpacket", func)).rpartition(".")[2]


def storage_of(tensor: Tensor) -> int:
    """Return an identifier of the memory of a tensor, which its views share.

    Args:
        tensor: Any tensor.

    Returns:
        The identifier.
    """
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # sparse and other tensors without storage
        return id(tensor)


def _span(tensor: Tensor) -> tuple[int, int]:
    """Return the first element of the storage that a tensor reaches, and one past the last."""
    if tensor.layout != torch.strided:
        return 0, 1
    start = int(tensor.storage_offset())
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + int(reach) + 1

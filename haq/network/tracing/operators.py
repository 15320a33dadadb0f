"""Every operator that a network runs, below torch's functions: the products among them, and who reads its parameters.

A function mode sees what Python calls. What TorchScript, a composite function of torch or an extension in C++ computes
is seen by a dispatch mode alone, operator by operator, and cannot be replaced there: such products stay in float, and
have to be named.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count


@dataclass(frozen=True, slots=True)
class Product:
    """A product that an operator computed on one item."""

    operator: str
    macs: int
    parameters: tuple[str, ...]
    """What it multiplied with, as it is or after something was computed from it alone; of most dimensions first."""
    module: str
    """The path of the module that was running."""


class OperatorCalls(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch writes its hook without types
    """While active, writes down all products and which operators read which parameters.

    Operators that no torch function encloses, as those of TorchScript, are called as torch functions here, so that a
    function mode which is active too sees them.
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
        # Tensors that do not depend on the input, and the parameters that they depend on; kept, as ids are reused.
        self._fixed: dict[int, tuple[Tensor, frozenset[str]]] = {}
        for name, parameter in model.named_parameters():
            if not is_lazy(parameter):
                self._parameters[storage_of(parameter)].append((*_span(parameter), name))
                self._order[name] = (-parameter.ndim, name)
        for buffer in model.buffers():
            self._fixed[storage_of(buffer)] = (buffer, frozenset())

    def take(self, first: int) -> list[Product]:
        """The products from the `first` on, which are the caller's to account for: they are removed."""
        taken = self.products[first:]
        del self.products[first:]
        return taken

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if hasattr(func, "decompose") and _formula(func) is None:  # in inference mode composites come in one piece
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            self._note(func, args, kwargs, result)
        return result

    def _note(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        operands = list(tensors((*args, *kwargs.values())))
        sources = [self._sources(tensor) for tensor in operands]
        names = sorted({name for source in sources if source for name in source}, key=self._order.__getitem__)
        operator, formula = _name(func), _formula(func)
        if formula is not None:
            self.products.append(Product(operator, formula(args, kwargs, result), tuple(names), self._running()))
        outputs = list(tensors((result,)))
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
        """The parameters that a tensor is, looks into or was computed from; None where it depends on the input."""
        storage = storage_of(tensor)
        if storage in self._parameters:
            start, end = _span(tensor)
            parts = self._parameters[storage]
            return frozenset(name for first, last, name in parts if first < end and start < last)
        return self._fixed[storage][1] if storage in self._fixed else None


def nested_tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in what a module takes or answers, however deep."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from nested_tensors(item)


def tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among arguments or results, one list or tuple deep."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from (item for item in value if isinstance(item, Tensor))


Formula = Callable[[tuple[Any, ...], Mapping[str, Any], Any], int]
"""Multiply-accumulates of a product from its arguments and its result."""


def _formula(func: Any) -> Formula | None:
    """torch's own formula for an operator, or one for those that torch has none for; None for all but products."""
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
"""Products that torch's counter of operations does not know."""


def _name(func: Any) -> str:
    return str(getattr(func, "overloadpacket", func)).rpartition(".")[2]


def storage_of(tensor: Tensor) -> int:
    """What tells the memory of a tensor, which its views share, from any other."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # sparse tensors, and others that have no storage
        return id(tensor)


def _span(tensor: Tensor) -> tuple[int, int]:
    """First element of the memory that a tensor reaches, and one past the last."""
    if tensor.layout != torch.strided:
        return 0, 1
    start = int(tensor.storage_offset())
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + int(reach) + 1

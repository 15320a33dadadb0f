"""Modules of a network that are running, and the number of products that each of their calls has computed."""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Self

from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from haq.network.tracing.products import ActivationProduct

Left = Callable[[Any, Any], None]
"""Function that receives the positional arguments and the outputs of a module that has run."""


@dataclass(slots=True)
class _Running:
    """One call of a module.

    Attributes:
        path: Path of the module.
        module: The module.
        products: Number of products that it has computed, by operator.
    """

    path: str
    module: nn.Module
    products: Counter[str] = field(default_factory=Counter)


class RunningModules:
    """Context manager that tracks which modules of a network are running.

    Modules that are no part of the network, such as those that a forward function creates, are left out.

    Args:
        model: Network.
        left: Called after every module.
    """

    def __init__(self, model: nn.Module, left: Left | None = None) -> None:
        # Exporters run a network with other objects for its modules, which have the same attributes.
        self._paths = {id(vars(module)): path for path, module in model.named_modules()}
        self._running: list[_Running] = [_Running("", model)]
        self._left, self._hooks = left, ExitStack()

    def __enter__(self) -> Self:
        for handle in (
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True),
        ):
            self._hooks.callback(handle.remove)
        return self

    def __exit__(self, *_error: Any) -> None:
        self._hooks.close()

    @property
    def path(self) -> str:
        """Path of the innermost running module; empty for the network itself."""
        return self._running[-1].path

    def place(self, operator: str) -> ActivationProduct:
        """Count a product in the innermost running module.

        Args:
            operator: Name of the operator.

        Returns:
            Its place.
        """
        running = self._running[-1]
        running.products[operator] += 1
        return ActivationProduct(running.path, operator, running.products[operator])

    def owner(self, parameter: nn.Parameter) -> tuple[str, str] | None:
        """Find the innermost running module that has a parameter.

        Args:
            parameter: Parameter of the network.

        Returns:
            Path of the module, and name of the parameter in it; None if no running module has it.
        """
        for running in reversed(self._running):
            owned: Mapping[str, nn.Parameter] = dict(running.module.named_parameters(recurse=False))
            for name, value in owned.items():
                if value is parameter:
                    return running.path, name
        return None

    def _enter(self, module: nn.Module, _: Any) -> None:
        path = self._paths.get(id(vars(module)))
        if path is not None:
            self._running.append(_Running(path, module))

    def _leave(self, module: nn.Module, args: Any, outputs: Any) -> None:
        if id(vars(module)) in self._paths:
            self._running.pop()
        if self._left is not None:
            self._left(args, outputs)

"""Removal of torch's wrappers around networks: compilation and data parallelism."""

import torch
from torch import nn
from torch.fx import GraphModule
from torch.nn.parallel import DataParallel, DistributedDataParallel

from haq.errors import UserError


def unwrapped(model: nn.Module) -> nn.Module:
    """Return a network without compilation and data parallelism, at the root and inside, with the same parameters.

    The given modules are not changed: those that contain a wrapper are copied without their parameters.

    Args:
        model: Network, possibly wrapped.

    Returns:
        The network without wrappers; the same object if there are none.

    Raises:
        UserError: The model is, or contains, a TorchScript module or an exported program, whose layers cannot be
            replaced.

    Examples:
        >>> unwrapped(nn.DataParallel(nn.Linear(4, 2)))
        Linear(in_features=4, out_features=2, bias=True)
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise UserError("the model is a TorchScript module; give the nn.Module that it was made from")
    for name, module in model.named_modules():
        if _is_exported(module):
            what = f"{name}, a part of the model," if name else "the model"
            raise UserError(f"{what} is an exported program; give the nn.Module that it was made from")
    return _unwrapped(model, {})


def _unwrapped(module: nn.Module, found: dict[nn.Module, nn.Module]) -> nn.Module:
    """Unwrap one module; `found` caches results, since a module may be used more than once."""
    if isinstance(module, torch.jit.ScriptModule):  # modules inside it cannot be replaced
        return module
    if module not in found:
        inner = _inner(module)
        found[module] = _with_unwrapped_parts(module, found) if inner is None else _unwrapped(inner, found)
    return found[module]


def _inner(module: nn.Module) -> nn.Module | None:
    """Return the module inside a wrapper; None for any other module."""
    if isinstance(module, DataParallel | DistributedDataParallel):
        return module.module  # type: ignore[no-any-return]
    return module._modules.get("_orig_mod")  # not `isinstance`: importing its class would import the compiler


def _with_unwrapped_parts(module: nn.Module, found: dict[nn.Module, nn.Module]) -> nn.Module:
    parts = {name: None if part is None else _unwrapped(part, found) for name, part in module._modules.items()}
    is_compiled = module._compiled_call_impl is not None
    if not is_compiled and all(parts[name] is part for name, part in module._modules.items()):
        return module
    copy = module.__class__.__new__(module.__class__)
    copy.__dict__.update(module.__dict__, _modules=parts, _compiled_call_impl=None)
    return copy


def _is_exported(module: nn.Module) -> bool:
    """Return whether a module is a graph of operators in which no module is called."""
    nodes = module.graph.nodes if isinstance(module, GraphModule) else ()
    return any(isinstance(node.target, torch._ops.OpOverload) for node in nodes)

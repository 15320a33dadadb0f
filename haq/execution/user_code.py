"""Calls of user code that is named as `package.module:callable`."""

import importlib
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import torch
from torch import nn

from haq.errors import UserError, printable, suggestion

_AUTOCAST = ("cpu", "cuda")
"""Devices whose autocast is switched separately."""


def call_user_code(spec: str, *, similar: Collection[str] = ()) -> Any:
    """Import a callable from the current folder or PYTHONPATH, and call it without arguments.

    Args:
        spec: Callable as `package.module:callable`.
        similar: Names that may stand before the colon in place of a module, to suggest where there is no such module.

    Returns:
        Result of the callable.

    Raises:
        UserError: The callable cannot be imported, or raises an error.
    """
    module_name, _, attribute = spec.partition(":")
    with _current_folder_first(), torch_state_kept():
        try:
            target = getattr(importlib.import_module(module_name), attribute)
        except Exception as error:  # importing a module runs user code
            hint = suggestion(module_name, similar) if isinstance(error, ModuleNotFoundError) else ""
            raise UserError(f"cannot import {spec} ({one_line(error)}); looked in {_places()}{hint}") from error
        try:
            return target()
        except Exception as error:  # a user's code may raise anything
            raise UserError(f"{spec} raised {one_line(error)}; it is called without arguments") from error


def is_user_code(spec: str) -> bool:
    """Return whether a name has the form `package.module:callable`.

    Args:
        spec: Name of a model or of data.

    Returns:
        True if it has.

    Examples:
        >>> is_user_code("my_models.nets:small"), is_user_code("imagefolder:/data")
        (True, False)
    """
    module_name, colon, attribute = spec.partition(":")
    return bool(colon) and attribute.isidentifier() and all(part.isidentifier() for part in module_name.split("."))


@contextmanager
def torch_state_kept() -> Iterator[None]:
    """Restore torch's global state at the end of the context: gradient mode, autocast, default dtype and device.

    Yields:
        None.
    """
    gradients, dtype, place = torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_default_device()
    autocast = {device: torch.is_autocast_enabled(device) for device in _AUTOCAST}
    try:
        yield
    finally:
        torch.set_grad_enabled(gradients)
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != place:
            torch.set_default_device(None if place.type == "cpu" else place)
        _switch_autocast(autocast)


def _switch_autocast(enabled: Mapping[str, bool]) -> None:
    for device, is_on in enabled.items():
        torch.set_autocast_enabled(device, is_on)


@contextmanager
def caller_kept(model: nn.Module | None) -> Iterator[None]:
    """Use torch's default settings in the context; restore the caller's settings and its network's modes after it.

    The defaults are gradients enabled, float32, the CPU and no autocast.

    Args:
        model: Network whose training modes are restored; None for none.

    Yields:
        None.
    """
    with modes_kept(model), torch_state_kept(), torch.inference_mode(mode=False), torch.enable_grad():
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
        _switch_autocast(dict.fromkeys(_AUTOCAST, False))
        # A device that differs now was chosen by the caller with a `torch.device` context.
        with nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu"):
            yield


@contextmanager
def modes_kept(model: nn.Module | None) -> Iterator[None]:
    """Restore the training or evaluation mode of every module of a network at the end of the context.

    Args:
        model: Network; None for none.

    Yields:
        None.
    """
    flags = {} if model is None else {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, training in flags.items():
            module.training = training


def one_line(error: BaseException) -> str:
    r"""Return type and message of an error in one printable line of limited length.

    Args:
        error: Error to describe.

    Returns:
        The text.

    Examples:
        >>> one_line(ValueError("two\nlines"))
        'ValueError: two lines'
    """
    message = printable(" ".join(str(error).split()))
    return f"{type(error).__name__}: {message[:300]}" if message else type(error).__name__


def _places() -> str:
    path = os.environ.get("PYTHONPATH")
    return f"{os.getcwd()} and PYTHONPATH ({path or 'not set'})"  # noqa: PTH109 - a text, not a path


@contextmanager
def _current_folder_first() -> Iterator[None]:
    folder = os.getcwd()  # noqa: PTH109 - sys.path holds texts
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with suppress(ValueError):  # a user's code may have removed it
            sys.path.remove(folder)

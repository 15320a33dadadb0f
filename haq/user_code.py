"""Calling what a user names as `package.module:callable`."""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from torch import nn

from haq.errors import UserError


def call_user_code(spec: str) -> Any:
    """Import from the current folder or PYTHONPATH and call without arguments.

    Raises UserError, in one line, where it cannot be imported or raises.
    """
    module_name, _, attribute = spec.partition(":")
    with _current_folder_first():
        try:
            target = getattr(importlib.import_module(module_name), attribute)
        except Exception as error:  # importing a user's module runs his code
            raise UserError(f"cannot import {spec} ({one_line(error)}); looked in {_places()}") from error
        try:
            return target()
        except Exception as error:  # a user's code may raise anything
            raise UserError(f"{spec} raised {one_line(error)}; it is called without arguments") from error


def is_user_code(spec: str) -> bool:
    """Does it have the form `package.module:callable`?

    >>> is_user_code("my_models.nets:small"), is_user_code("imagefolder:/data")
    (True, False)
    """
    module_name, colon, attribute = spec.partition(":")
    return bool(colon) and attribute.isidentifier() and all(part.isidentifier() for part in module_name.split("."))


@contextmanager
def training_flags_kept(model: nn.Module | None) -> Iterator[None]:
    """Put the modules of a user's network back into the mode they were in."""
    flags = {} if model is None else {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, training in flags.items():
            module.training = training


def one_line(error: BaseException) -> str:
    """Type and message of an error without line breaks, cut where it gets long.

    >>> one_line(ValueError("two\\nlines"))
    'ValueError: two lines'
    """
    message = " ".join(str(error).split())
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

"""Suppression of the output of libraries."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress

_OUTPUTS = (1, 2)
"""File descriptors of standard output and standard error, which compiled code writes to."""


@contextmanager
def silent() -> Iterator[None]:
    """Discard warnings, log records and everything that Python or compiled code prints."""
    with ExitStack() as stack:
        nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123
        stack.enter_context(_logging_disabled())
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        for descriptor in _OUTPUTS:
            stack.enter_context(_redirected(descriptor, nowhere.fileno()))
        stack.enter_context(redirect_stdout(nowhere))
        stack.enter_context(redirect_stderr(nowhere))
        yield


@contextmanager
def _logging_disabled() -> Iterator[None]:
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(level)


@contextmanager
def _redirected(descriptor: int, target: int) -> Iterator[None]:
    """Redirect a file descriptor to another; one that is closed stays closed."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):  # no stream, a closed one, or a broken pipe
            stream.flush()
    try:
        kept = os.dup(descriptor)
    except OSError:
        yield
        return
    os.dup2(target, descriptor)
    try:
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)

"""The error of a user's mistake, and the warning that a result needs."""

import warnings
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in what was asked for. The message is one line: what was wrong, and what would be right."""


class HaqWarning(UserWarning):
    """Something that a result should be read with, such as an accuracy that guessing would reach."""


def warn_caller(messages: Iterable[str]) -> None:
    """Issue messages as warnings of the line that called the function that calls this one."""
    for message in messages:
        warnings.warn(message, HaqWarning, stacklevel=3)

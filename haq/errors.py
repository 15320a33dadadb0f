"""Exceptions and warnings of haq."""

import warnings
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in what was asked for. The message is one line: what was wrong, and what would be right."""


class HaqWarning(UserWarning):
    """Warning about how far a result can be trusted, such as a float accuracy no better than chance."""


def warn_caller(messages: Iterable[str]) -> None:
    """Issue warnings attributed to the caller of the calling function."""
    for message in messages:
        warnings.warn(message, HaqWarning, stacklevel=3)

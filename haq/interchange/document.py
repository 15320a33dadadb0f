"""JSON values of files of bits, and their validation."""

from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import from_json

from haq.errors import UserError, validation_message

MAX_ENTRIES = 100_000
"""Largest number of tensors or layers in a file."""


class Part(BaseModel):
    """Part of a file that is read; other keys are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


def parse_json(text: str) -> Any:
    """Parse JSON without NaN and infinite numbers.

    Args:
        text: The text.

    Returns:
        JSON values.

    Raises:
        UserError: The text is no JSON; the message says where.
    """
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise UserError(f"no JSON: {error}") from error


def validated(adapter: TypeAdapter[Any], document: Any, *, place: str = "") -> Any:
    """Validate a part of a document.

    Args:
        adapter: Expected type.
        document: JSON values.
        place: Where the part stands, for messages.

    Returns:
        The value of the expected type.

    Raises:
        UserError: The document has another form; the message names the place.
    """
    try:
        return adapter.validate_python(document)
    except ValidationError as error:
        problem = validation_message(error)
        raise UserError(f"{place}.{problem}" if place else problem) from error

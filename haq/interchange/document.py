"""Files of bits as text or JSON values, with limits on their size, and their validation."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import from_json

from haq.errors import UserError, validation_message
from haq.policy import MAX_FILE_BYTES

MAX_ENTRIES = 100_000
"""Largest number of tensors or layers in a file."""


class Part(BaseModel):
    """Part of a file that is read; other keys are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


def read_text(path: Path) -> str:
    """Read a text file.

    Args:
        path: File of at most `MAX_FILE_BYTES`.

    Returns:
        Its text, without a byte order mark.

    Raises:
        UserError: The file cannot be read, is too large or is no text in UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise UserError(f"{path} is larger than {MAX_FILE_BYTES // 2**20} MiB, which no file of bits is")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text: byte {error.start} is not UTF-8") from error


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

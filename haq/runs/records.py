"""Base classes of the typed records in the files of a run, and their validation."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from haq.errors import UserError, validation_message

MAX_MAGNITUDE = 1e100
"""Largest number in a record; the square of a much larger one overflows, and no measured value is close to it."""
Finite = Annotated[float, Field(strict=True, ge=-MAX_MAGNITUDE, le=MAX_MAGNITUDE, allow_inf_nan=False)]
Fraction = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Amount = Annotated[float, Field(strict=True, ge=0, le=MAX_MAGNITUDE, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, gt=0, le=MAX_MAGNITUDE, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=0, lt=2**63)]

_MISFITS = (ValueError, LookupError, TypeError, AttributeError, RuntimeError, OverflowError)
"""Exceptions of `load_state_dict` for a state that does not fit; a ValidationError is a ValueError."""


class Record(BaseModel):
    """Part of a file that its readers use; other keys of the file are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class StoredRecord(Record):
    """Record that is written and read.

    `model_dump(mode="json")` gives the JSON object in the file: the keys that were read or passed to the constructor,
    in the order of the fields. Optional fields that were neither are omitted, so that a file of an earlier version
    keeps its keys.
    """

    @model_serializer(mode="wrap")
    def _without_unset_fields(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        unset = type(self).model_fields.keys() - self.model_fields_set
        return {name: value for name, value in serialize(self).items() if name not in unset}


class Metric(StoredRecord):
    """Metric of the scores in a file; see `haq.tasks.metrics.metric_of`."""

    model_config = ConfigDict(extra="allow")

    name: str
    value: Finite | None = None
    higher_is_better: bool = True
    format: Literal["percent", "number"] = "number"


T = TypeVar("T", bound=Record)


def checked(shape: type[T], document: object, path: Path, *, remedy: str | None = None) -> T:
    """Validate a document that was read from a file.

    Args:
        shape: Type of the record.
        document: JSON value of the file.
        path: The file.
        remedy: Advice to the user for a damaged file, as the end of a sentence.

    Returns:
        The record.

    Raises:
        UserError: The document is no valid record; the message names the file, the key and the remedy.

    Examples:
        >>> checked(Metric, {"name": "accuracy"}, Path("summary.json"), remedy="delete it").name
        'accuracy'
    """
    try:
        return shape.model_validate(document)
    except ValidationError as error:
        problem = validation_message(error)
        message = f"is damaged: {problem}" if remedy is None else f"is damaged ({problem}); {remedy}"
        raise UserError(f"{path} {message}") from error


def holds(shape: type[Record], document: object) -> bool:
    """Return whether a document is a valid record.

    Args:
        shape: Type of the record.
        document: JSON value.

    Returns:
        True if it is valid.

    Examples:
        >>> holds(Metric, {"name": 5}), holds(Metric, 5)
        (False, False)
    """
    try:
        shape.model_validate(document)
    except ValidationError:
        return False
    return True


def same_settings(saved: object, text: str) -> bool:
    """Return whether settings saved as JSON text equal other settings, in any order of their keys.

    Args:
        saved: Saved value; anything but a JSON text is unequal.
        text: JSON text of the other settings.

    Returns:
        True if they are equal.

    Examples:
        >>> same_settings('{"seed": 0, "agent": "ddpg"}', '{"agent": "ddpg", "seed": 0}'), same_settings(None, "{}")
        (True, False)
    """
    try:
        return isinstance(saved, str) and bool(json.loads(saved) == json.loads(text))
    except ValueError:
        return False


@contextmanager
def damage_named(path: Path, *, remedy: str) -> Iterator[None]:
    """Convert errors of restoring a state from a file into a UserError that names the file and the remedy.

    Args:
        path: The file.
        remedy: Advice to the user, as the end of a sentence.

    Yields:
        None.

    Raises:
        UserError: The state inside the context could not be restored.
    """
    try:
        yield
    except _MISFITS as error:
        raise UserError(f"{path} is damaged; {remedy}") from error


def parse_object(content: bytes) -> dict[str, Any] | None:
    """Parse a JSON object with finite numbers.

    Args:
        content: JSON text.

    Returns:
        The object; None for anything else, and for an object with numbers that are NaN or infinite.

    Examples:
        >>> parse_object(b'{"cost": 0.5}'), parse_object(b'{"cost": NaN}'), parse_object(b'{"cost": 1e999}')
        ({'cost': 0.5}, None, None)
    """
    try:
        document = json.loads(content, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _finite(text: str) -> float:
    number = float(text)
    return number if isfinite(number) else _refuse(text)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)

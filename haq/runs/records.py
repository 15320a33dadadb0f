"""What the files of a run have to hold, checked once: where a file is read."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from haq.errors import UserError, validation_message

MOST = 1e100
"""The square of what is much larger overflows; nothing that is measured comes near."""
Finite = Annotated[float, Field(strict=True, ge=-MOST, le=MOST, allow_inf_nan=False)]
Fraction = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Amount = Annotated[float, Field(strict=True, ge=0, le=MOST, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, gt=0, le=MOST, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=0, lt=2**63)]


_MISFITS = (ValueError, LookupError, TypeError, AttributeError, RuntimeError, OverflowError)
"""What `load_state_dict` raises on a state of something else; a ValidationError is a ValueError."""


class Record(BaseModel):
    """Part of a file; what else stands there is not for its reader."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Metric(Record):
    """The metric behind the scores of a file; see `haq.tasks.metrics.metric_of`."""

    name: str
    value: Finite | None = None
    higher_is_better: bool = True
    format: Literal["percent", "number"] = "number"


T = TypeVar("T", bound=Record)


def checked(shape: type[T], document: object, path: Path, *, remedy: str) -> T:
    """What a file holds. Raises UserError, naming the file, what is wrong with it, and the remedy.

    >>> checked(Metric, {"name": "accuracy"}, Path("summary.json"), remedy="delete it").name
    'accuracy'
    """
    try:
        return shape.model_validate(document)
    except ValidationError as error:
        raise UserError(f"{path} is damaged ({validation_message(error)}); {remedy}") from error


def holds(shape: type[Record], document: object) -> bool:
    """Whether a document has a shape.

    >>> holds(Metric, {"name": 5}), holds(Metric, 5)
    (False, False)
    """
    try:
        shape.model_validate(document)
    except ValidationError:
        return False
    return True


def same_settings(saved: object, text: str) -> bool:
    """Return whether settings saved as JSON text equal others, in whatever order they are written.

    >>> same_settings('{"seed": 0, "agent": "ddpg"}', '{"agent": "ddpg", "seed": 0}'), same_settings(None, "{}")
    (True, False)
    """
    try:
        return isinstance(saved, str) and bool(json.loads(saved) == json.loads(text))
    except ValueError:
        return False


@contextmanager
def damage_named(path: Path, *, remedy: str) -> Iterator[None]:
    """Raise UserError, naming the file and the remedy, where what a file holds cannot be taken over."""
    try:
        yield
    except _MISFITS as error:
        raise UserError(f"{path} is damaged; {remedy}") from error

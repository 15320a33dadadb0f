"""Reading of TOML files that describe a device or a deployment target; every mistake is reported in one line."""

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from hardware_sim.file_limits import FileKind, TooLargeError, read_bounded
from hardware_sim.units import closest_key, unit_hint

M = TypeVar("M", bound=BaseModel)


class DescriptionError(ValueError):
    """A file that does not describe what it should; the message is one line."""


def read_toml(path: Path, kind: FileKind) -> Mapping[str, Any]:
    """Read a TOML file.

    Args:
        path: The file.
        kind: What it should be.

    Returns:
        Its values.

    Raises:
        DescriptionError: The file is missing, too large or no TOML.
    """
    try:
        if not path.is_file():
            raise DescriptionError(f"{str(path)!r:.200}: {'not a file' if path.exists() else 'no such file'}")
        return tomllib.loads(read_bounded(path, kind).decode())
    except TooLargeError as error:
        raise DescriptionError(str(error)) from error
    except OSError as error:
        raise DescriptionError(f"{str(path)!r:.200}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DescriptionError(f"{str(path)!r}: not text in UTF-8") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise DescriptionError(f"{str(path)!r}: not TOML: {error}") from error


def validated(cls: type[M], values: Mapping[str, Any], path: Path) -> M:
    """Validate the values of a file.

    Args:
        cls: Model of the values.
        values: The values.
        path: The file, for messages and for the context of validators (`folder`).

    Returns:
        The validated model.

    Raises:
        DescriptionError: A key is unknown, missing or has a wrong value; the message names all such keys.
    """
    try:
        return cls.model_validate(values, context={"folder": path.parent})
    except ValidationError as error:
        raise DescriptionError(f"{str(path)!r:.200}: {'; '.join(_messages(error, cls))}") from error


def closest(word: str, known: Iterable[str]) -> str:
    """Suggest the known name that was probably meant.

    Args:
        word: The unknown name.
        known: The names that exist.

    Returns:
        The suggestion in brackets, after a space; empty if no name is close.

    Example:
        >>> closest("tflite", ["tflm", "finn"])
        " (did you mean 'tflm'?)"
    """
    match = closest_key(word, known)
    return f" (did you mean {match!r}?)" if match else ""


def _messages(error: ValidationError, cls: type[BaseModel]) -> Iterator[str]:
    problems = [*_causes(error.errors(include_url=False))]
    unknown = {problem["loc"]: problem["input"] for problem in problems if problem["type"] == "extra_forbidden"}
    hints = {loc: unit_hint(str(loc[-1]), value, _keys(cls)) for loc, value in unknown.items()}
    in_other_units = {(*loc[:-1], hint.partition(" ")[0]) for loc, hint in hints.items() if hint}
    for problem in problems:
        key = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            hint = hints[problem["loc"]]
            yield f"unknown key {key!r:.60}{f'; write {hint}' if hint else closest(key, _keys(cls))}"
        elif problem["type"] == "missing":
            if problem["loc"] not in in_other_units:
                yield f"missing key {key!r}"
        else:
            yield _message(key, problem["type"], message=problem["msg"], got=problem["input"])


def _causes(problems: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield the problems without those of lists that are too short only because an item of theirs is wrong."""
    places = [problem["loc"] for problem in problems]
    for problem in problems:
        place = problem["loc"]
        has_cause = any(len(other) > len(place) and other[: len(place)] == place for other in places)
        if not (problem["type"] == "too_short" and has_cause):
            yield problem


def _message(key: str, kind: str, *, message: str, got: object) -> str:
    text = message.removeprefix("Value error, ").replace("\n", " ")
    return text if kind == "value_error" else f"{key}: {text[:1].lower()}{text[1:]}, got {got!r:.60}"


def _keys(kind: Any) -> Iterator[str]:
    """List the keys of a file of this kind, and of the tables within."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            yield name
            yield from _keys(field.annotation)
    else:
        for part in get_args(kind):
            yield from _keys(part)

"""Reading of Darknet's cfg files: sections in brackets, each followed by lines of the form `option=value`."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import TypeVar

from haq.errors import UserError
from haq.file_limits import CFG, read_text

T = TypeVar("T")
MAX_SECTIONS = 1000
"""Greatest number of sections; YOLOv4 has 163."""


@dataclass(frozen=True, slots=True)
class Option:
    """Value of an option.

    Attributes:
        text: The value as it is written, without spaces.
        line: Number of its line, from 1.
    """

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Section:
    """Section of a cfg file; its methods read options and raise UserError for wrong values.

    Attributes:
        path: The file.
        kind: Name in brackets.
        line: Number of the line of its name, from 1.
        options: Its options.
    """

    path: Path
    kind: str
    line: int
    options: dict[str, Option] = field(default_factory=dict)

    def integer(self, name: str, default: int | None = None, *, low: int = 0, high: int = 2**16) -> int:
        """Read a whole number.

        Args:
            name: Name of the option.
            default: Its value where it is missing; None if it is required.
            low: Least value.
            high: Greatest value.

        Returns:
            The number.

        Raises:
            UserError: The option is missing or has another value.
        """
        return self._value(
            name, default, lambda text: _integer(text, low, high), f"a whole number from {low} to {high}"
        )

    def integers(self, name: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """Read whole numbers separated by commas.

        Args:
            name: Name of the option.
            default: Its value where it is missing; None if it is required.

        Returns:
            The numbers.

        Raises:
            UserError: The option is missing or has another value.
        """
        limit = 2**16
        return self._value(
            name,
            default,
            lambda text: tuple(_integer(part, -limit, limit) for part in text.split(",")),
            "whole numbers separated by commas",
        )

    def number(self, name: str, default: float, *, low: float, high: float) -> float:
        """Read a number.

        Args:
            name: Name of the option.
            default: Its value where it is missing.
            low: Least value.
            high: Greatest value.

        Returns:
            The number.

        Raises:
            UserError: The option has another value.
        """
        return self._value(name, default, lambda text: _number(text, low, high), f"a number from {low:g} to {high:g}")

    def numbers(self, name: str) -> tuple[float, ...]:
        """Read numbers above 0 separated by commas.

        Args:
            name: Name of the option.

        Returns:
            The numbers.

        Raises:
            UserError: The option is missing or has another value.
        """
        low, high = 2.0**-16, 2.0**16
        return self._value(
            name,
            None,
            lambda text: tuple(_number(part, low, high) for part in text.split(",")),
            "numbers above 0 separated by commas",
        )

    def choice(self, name: str, default: str, values: Collection[str]) -> str:
        """Read one of several words.

        Args:
            name: Name of the option.
            default: Its value where it is missing.
            values: The words.

        Returns:
            The word.

        Raises:
            UserError: The option has another value.
        """
        words = sorted(values)
        return self._value(name, default, lambda text: words[words.index(text)], f"one of {', '.join(words)}")

    def require_known(self, names: Collection[str]) -> None:
        """Check that the section has no other options than these.

        Args:
            names: Names of options.

        Raises:
            UserError: The section has another option.
        """
        for name, option in self.options.items():
            if name not in names:
                raise self.error(f"{name} is no option of it that is supported", option.line)

    def error(self, problem: str, line: int | None = None) -> UserError:
        """Return an error that names the section and its line.

        Args:
            problem: What is wrong.
            line: Number of the line; that of the section if None.

        Returns:
            The error.
        """
        return UserError(f"{self.path} line {line or self.line}: [{self.kind}]: {problem}")

    def _value(self, name: str, default: T | None, read: Callable[[str], T], expected: str) -> T:
        option = self.options.get(name)
        if option is None:
            if default is None:
                raise self.error(f"{name} is missing; expected {expected}")
            return default
        try:
            return read(option.text)
        except ValueError as error:
            raise self.error(f"{name}={option.text[:40]} is not {expected}", option.line) from error


def read_cfg(path: str | Path) -> list[Section]:
    """Read the sections of a cfg file.

    Args:
        path: The file.

    Returns:
        The sections; the first is `[net]`.

    Raises:
        UserError: The file cannot be read or is no cfg file. The message is one line.
    """
    path = Path(path)
    sections: list[Section] = []
    for number, raw in enumerate(read_text(path, CFG).splitlines(), 1):
        line = "".join(raw.partition("#")[0].split())
        if not line or line.startswith(";"):
            continue
        if not line.isprintable():
            raise UserError(f"{path} line {number}: expected [section] or option=value, found {line[:40]!r}")
        if line.startswith("[") and line.endswith("]"):
            sections.append(Section(path, line[1:-1], number))
            continue
        name, equals, value = line.partition("=")
        if not (sections and equals and name):
            raise UserError(f"{path} line {number}: expected [section] or option=value, found {line[:40]!r}")
        _add(sections[-1], name, Option(value, number))
    if not sections or sections[0].kind not in ("net", "network"):
        raise UserError(f"{path} is no Darknet cfg: its first section is not [net]")
    if len(sections) > MAX_SECTIONS:
        raise UserError(f"{path} has {len(sections)} sections; at most {MAX_SECTIONS} are supported")
    return sections


def _add(section: Section, name: str, option: Option) -> None:
    if name in section.options:
        raise section.error(f"{name} was given on line {section.options[name].line} already", option.line)
    section.options[name] = option


def _integer(text: str, low: int, high: int) -> int:
    value = int(text) if len(text) < 20 else high + 1
    if not low <= value <= high:
        raise ValueError(f"{text} is out of range")
    return value


def _number(text: str, low: float, high: float) -> float:
    value = float(text)
    if not (isfinite(value) and low <= value <= high):
        raise ValueError(f"{text} is out of range")
    return value

"""Command-line flags generated from the groups of settings, so that a flag means the same in every command."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel

from agents.registry import METHODS
from haq.config import SearchConfig, search_config
from haq.errors import UserError
from haq.settings import (
    DATA_SETTINGS,
    DEVICE_SETTINGS,
    GROUPS,
    MAX_SEEDS,
    MODEL_SETTINGS,
    QUANTIZER_SETTINGS,
    settings_of,
)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
QuietFlag = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
ResumeFlag = Annotated[bool, typer.Option("--resume", help="Continue the run in --out, if there is one.")]
OutFolder = Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="results/...")]
SeedsFlag = Annotated[int, typer.Option(help="Number of seeds, from --seed on.", min=1, max=MAX_SEEDS, metavar="N")]

MODEL_FLAGS, DATA_FLAGS, DEVICE_FLAGS, QUANTIZER_FLAGS = (
    MODEL_SETTINGS,
    DATA_SETTINGS,
    DEVICE_SETTINGS,
    QUANTIZER_SETTINGS,
)
ALL_FLAGS = settings_of(*GROUPS)
_HEADINGS = {name: group.heading for group in GROUPS for name in group.model_fields}
WIDTHS = {str(bits): bits for bits in range(1, 9)}
MAX_DIGITS, MAX_SHOWN = 10, 100

Command = Callable[..., Any]


def read_several(text: str) -> tuple[str, ...]:
    """Split values that are separated by commas.

    Args:
        text: Values of a flag.

    Returns:
        The values without surrounding spaces; empty ones are dropped.

    Examples:
        >>> read_several("3bits, 4bits,")
        ('3bits', '4bits')
    """
    return tuple(each.strip() for each in text.split(",") if each.strip())


def with_config(*names: str) -> Callable[[Command], Command]:
    """Create a decorator that adds the flags of some settings to a command.

    The parameter `config` of the command receives a `SearchConfig`: the flags that were given, which are in its
    `model_fields_set`, and the defaults of `haq search` otherwise.

    Args:
        names: Settings of `SearchConfig`.

    Returns:
        The decorator.
    """

    def make(values: Mapping[str, Any]) -> SearchConfig:
        return search_config(
            **{name: _SPECIAL[name].read(value) if name in _SPECIAL else value for name, value in values.items()}
        )

    flags = [_flag(SearchConfig, name, heading=_HEADINGS[name]) for name in names]
    return _with_flags("config", flags, make)


def with_settings(
    parameter: str, settings: type[BaseModel], make: Callable[..., BaseModel], *, heading: str
) -> Callable[[Command], Command]:
    """Create a decorator that adds the flags of all fields of a settings class to a command.

    Args:
        parameter: Parameter of the command that receives the settings.
        settings: Class whose fields become flags.
        make: Builds the settings from the flags that were given, and raises `UserError` for invalid values.
        heading: Heading of the flags in the help.

    Returns:
        The decorator.
    """
    flags = [_flag(settings, name, heading=heading) for name in settings.model_fields]
    return _with_flags(parameter, flags, lambda values: make(**values))


def _with_flags(
    parameter: str, flags: list[inspect.Parameter], make: Callable[[Mapping[str, Any]], Any]
) -> Callable[[Command], Command]:
    """Replace a parameter of a command by flags; `make` builds its value from those that were given."""
    names = [flag.name for flag in flags]

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        others = [each for name, each in signature.parameters.items() if name != parameter]

        @wraps(command)
        def run(**values: Any) -> Any:
            taken = {name: values.pop(name) for name in names}
            given = {name: value for name, value in taken.items() if value is not None and value != []}
            return command(**{parameter: make(given)}, **values)

        arguments = [each for each in others if each.default is inspect.Parameter.empty]
        options = [each for each in others if each.default is not inspect.Parameter.empty]
        keyword = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*arguments, *flags, *options)]
        run.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
        return run

    return decorate


def _flag(settings: type[BaseModel], name: str, *, heading: str) -> inspect.Parameter:
    field, special = settings.model_fields[name], _SPECIAL.get(name)
    kind = special.type if special else _plain(field.annotation)
    shown = special.shown if special else field.default
    word = name.replace("_", "-")
    option = typer.Option(
        f"--{word}/--no-{word}" if kind is bool else f"--{word}",
        help=field.description,
        show_default=False if shown is None or shown == "" else str(shown),
        metavar=special.form if special else None,
        rich_help_panel=heading,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _plain(annotation: Any) -> Any:
    """Return the type that the command line reads: `int`, `str` or a choice, without constraints and None."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return annotation
    options = [option for option in get_args(annotation) if option is not type(None)]
    if not options:
        return annotation
    plain = [_plain(option) for option in options]
    if len(plain) == 1:
        return plain[0]
    return Literal[tuple(value for option in plain for value in get_args(option))]


class _Special:
    """Setting whose text on the command line is converted by a function of its own."""

    def __init__(self, kind: Any, read: Callable[[Any], Any], *, form: str | None = None, shown: str = "") -> None:
        self.type, self.read, self.form, self.shown = kind, read, form, shown


def _read_input(text: str) -> tuple[int, ...]:
    parts = text.lower().split("x")
    # int() refuses thousands of digits.
    if len(parts) != 3 or not all(part.isdecimal() and len(part) <= MAX_DIGITS and int(part) > 0 for part in parts):
        raise UserError(f"--input {_shown(text)} is not a shape; write channels x height x width, such as 3x224x224")
    return tuple(int(part) for part in parts)


def _read_first_last(text: str) -> int | None:
    if text == "free":
        return None
    if text not in WIDTHS:
        raise UserError(
            f"--first-last-bits {_shown(text)}: write a width from 1 to 8, or free to search them like the others"
        )
    return WIDTHS[text]


def _read_pins(texts: list[str]) -> dict[str, int]:
    pins: dict[str, int] = {}
    for text in texts:
        name, equals, bits = text.rpartition("=")
        if not equals or not name or bits not in WIDTHS:
            raise UserError(f"--pin {_shown(text)}: write NAME=BITS with 1 to 8 bits, such as classifier=8")
        if name in pins:
            raise UserError(f"--pin {name} is given twice")
        pins[name] = WIDTHS[bits]
    return pins


def _shown(text: str) -> str:
    """Quote a text, shortened to `MAX_SHOWN` characters.

    >>> _shown("9" * 1000)[-4:]
    "...'"
    """
    return repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}...")


_SPECIAL: dict[str, _Special] = {
    "agent": _Special(Literal[tuple(METHODS)], str, shown="ddpg"),
    "budget": _Special(list[str], tuple, form="[OBJECTIVE=]VALUE", shown="0.6"),
    "pin": _Special(list[str], _read_pins, form="NAME=BITS"),
    "input": _Special(str, _read_input, form="CxHxW"),
    "max_accuracy_drop": _Special(float, float, form="POINTS"),
    "first_last_bits": _Special(str, _read_first_last, form="BITS|free", shown="8"),
}

"""Flags that commands share: one for every field of `SearchConfig`, so that each says the same thing everywhere."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from agents.registry import METHODS
from haq.config import DATA_SETTINGS, DEVICE_SETTINGS, MODEL_SETTINGS, SearchConfig, search_config
from haq.errors import UserError

RUN_OR_POLICY = typer.Argument(
    help="Folder of a run, whose model and data are used, or a policy file; without one, uniform bits.",
    metavar="RUN|POLICY",
)
JsonFlag = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on standard output.")]
QuietFlag = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]

MODEL_FLAGS, DATA_FLAGS, DEVICE_FLAGS = MODEL_SETTINGS, DATA_SETTINGS, DEVICE_SETTINGS
QUANTIZER_FLAGS = ("quantizer", "calibration", "zero_points", "rounding", "corrections", "engine", "device")
ALL_FLAGS = tuple(SearchConfig.model_fields)
WIDTHS = {str(bits): bits for bits in range(1, 9)}
MAX_DIGITS, MAX_SHOWN = 10, 100


def read_several(text: str) -> tuple[str, ...]:
    """Values with commas between them.

    >>> read_several("3bits, 4bits,")
    ('3bits', '4bits')
    """
    return tuple(each.strip() for each in text.split(",") if each.strip())


def with_config(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the flags of these settings; its first parameter, `config`, receives what they come to.

    The configuration holds what the user gave in `config.model_fields_set`, and the defaults of `haq search` otherwise.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

        @wraps(command)
        def run(**values: Any) -> Any:
            given = {name: values.pop(name) for name in names}
            return command(_config(given), **values)

        flags = [_flag(name) for name in names]
        arguments = [each for each in own if each.default is inspect.Parameter.empty]
        options = [each for each in own if each.default is not inspect.Parameter.empty]
        keyword = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*arguments, *flags, *options)]
        run.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
        return run

    return decorate


def _flag(name: str) -> inspect.Parameter:
    field = SearchConfig.model_fields[name]
    shown = _SPECIAL[name].shown if name in _SPECIAL else field.default
    kind = _SPECIAL[name].type if name in _SPECIAL else _plain(field.annotation)
    option = typer.Option(
        f"--{name.replace('_', '-')}",
        help=field.description,
        show_default=_default_text(shown),
        metavar=_SPECIAL[name].form if name in _SPECIAL else None,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _default_text(default: Any) -> bool | str:
    return False if default is None or default == "" else str(default)


def _plain(annotation: Any) -> Any:
    """The type that the command line reads: `int`, `str` or a choice, without constraints and None."""
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
    """A setting that is written in its own way on the command line."""

    def __init__(self, kind: Any, read: Callable[[Any], Any], *, form: str | None, shown: str = "") -> None:
        self.type, self.read, self.form, self.shown = kind, read, form, shown


def _config(given: Mapping[str, Any]) -> SearchConfig:
    values = {
        name: _SPECIAL[name].read(value) if name in _SPECIAL else value
        for name, value in given.items()
        if value is not None and value != []
    }
    return search_config(**values)


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
    """In quotes, cut where it gets long.

    >>> _shown("9" * 1000)[-4:]
    "...'"
    """
    return repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}...")


_SPECIAL: dict[str, _Special] = {
    "agent": _Special(Literal[tuple(METHODS)], str, form=None, shown="ddpg"),
    "budget": _Special(list[str], tuple, form="[OBJECTIVE=]VALUE", shown="0.6"),
    "pin": _Special(list[str], _read_pins, form="NAME=BITS"),
    "input": _Special(str, _read_input, form="CxHxW"),
    "max_accuracy_drop": _Special(float, float, form="POINTS"),
    "first_last_bits": _Special(str, _read_first_last, form="BITS|free", shown="8"),
}

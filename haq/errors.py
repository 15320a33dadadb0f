"""Exceptions and warnings of haq."""

import warnings
from collections.abc import Collection, Iterable
from difflib import get_close_matches

from pydantic import ValidationError

MAX_MESSAGE = 300
"""Longest description of an invalid value, in characters."""


class UserError(ValueError):
    """Error caused by the user's input. The message is one line that says what was wrong and what would be right."""


class FailedEvaluationError(UserError):
    """Error of evaluating one policy whose results are NaN or infinite."""


class HaqWarning(UserWarning):
    """Warning about how far a result can be trusted, such as a float accuracy no better than chance."""


def warn_caller(messages: Iterable[str]) -> None:
    """Issue warnings attributed to the caller of the calling function.

    Args:
        messages: Texts of the warnings.
    """
    for message in messages:
        warnings.warn(message, HaqWarning, stacklevel=3)


def validation_message(error: ValidationError, *, as_flag: bool = False) -> str:
    """Describe the first problem of a validation error in one printable line.

    Args:
        error: Error of pydantic.
        as_flag: Name the setting as a flag of the command line and show the value that it had, instead of naming the
            path to the value in its file.

    Returns:
        `--lr -1.0: input should be greater than 0` as a flag, else `layers.0.w_bits: input should be ...`.
    """
    problem = error.errors(include_url=False)[0]
    message = problem["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if as_flag:
        setting = str(problem["loc"][0]).replace("_", "-") if problem["loc"] else "settings"
        return f"--{setting} {problem['input']!r}: {message}"
    where = ".".join(map(str, problem["loc"]))
    line = f"{where}: {message}" if where else message
    line = printable(line)
    return line if len(line) <= MAX_MESSAGE else f"{line[: MAX_MESSAGE // 2]} ... {line[-MAX_MESSAGE // 2 :]}"


def printable(text: str) -> str:
    r"""Replace characters that are not printable, such as those of files in messages, by question marks.

    Args:
        text: Text of any origin.

    Returns:
        The text in one line that is safe to print.

    Examples:
        >>> printable("a\x1b[31m")
        'a?[31m'
    """
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def suggestion(name: str, names: Collection[str]) -> str:
    """Return the part of a message that suggests valid names for an unknown one.

    Args:
        name: The unknown name.
        names: Valid names.

    Returns:
        Text that begins with a semicolon; empty if no valid name is similar.

    Examples:
        >>> suggestion("resnet8_", ["resnet8", "yolov4"])
        '; did you mean resnet8?'
    """
    close = get_close_matches(name, names, n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""

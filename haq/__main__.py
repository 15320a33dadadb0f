"""`haq` and `python -m haq`: one line and exit code 2 for a user's mistake, a traceback and 1 for our own."""

import os
import sys
from collections.abc import Sequence

from typer.exceptions import TyperException

from envs.choices import BudgetError
from haq.cli.app import app
from haq.errors import UserError
from hardware_sim.catalog import DeviceError
from hardware_sim.cost import UnsupportedError

USER_ERRORS = (UserError, UnsupportedError, BudgetError, DeviceError, TyperException)
INTERRUPTED, READER_GONE = 130, 141


def process() -> int:
    """The command of this process; what compiled libraries print goes to standard error."""
    if sys.stdout is None:  # closed by whoever called
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  for as long as the process lives
        return main()
    ours = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.stdout = os.fdopen(ours, "w", encoding=sys.stdout.encoding)
    return main()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    try:
        # A number is what Typer makes of a KeyboardInterrupt; commands themselves return nothing.
        code = app(args=None if arguments is None else list(arguments), standalone_mode=False, prog_name="haq")
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has seen enough
        _drop_output()
        return READER_GONE
    except USER_ERRORS as error:
        sys.stderr.write(f"haq: {_one_line(error)}\n")
        return 2
    except OSError as error:  # a file that cannot be read or written
        if error.filename is None:
            _drop_output()
        sys.stderr.write(f"haq: cannot use {error.filename or 'standard output'}: {error.strerror or error}\n")
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def _drop_output() -> None:
    """What is left of it would fail once more at the end of the process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line(error: Exception) -> str:
    message = error.format_message() if isinstance(error, TyperException) else str(error)
    return " ".join(message.replace("Value error, ", "").split())


if __name__ == "__main__":
    sys.exit(process())

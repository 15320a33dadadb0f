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
INTERRUPTED = 130


def process() -> int:
    """The command of this process; what compiled libraries print goes to standard error."""
    ours = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.stdout = os.fdopen(ours, "w", encoding=sys.stdout.encoding)
    code = main()
    sys.stdout.flush()
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    try:
        # A number is what Typer makes of a KeyboardInterrupt; commands themselves return nothing.
        code = app(args=None if arguments is None else list(arguments), standalone_mode=False, prog_name="haq")
    except USER_ERRORS as error:
        sys.stderr.write(f"haq: {_one_line(error)}\n")
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def _one_line(error: Exception) -> str:
    message = error.format_message() if isinstance(error, TyperException) else str(error)
    return " ".join(message.replace("Value error, ", "").split())


if __name__ == "__main__":
    sys.exit(process())

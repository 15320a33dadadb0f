"""`haq` and `python -m haq`: a user error is one line and exit code 2, an internal error a traceback and 1.

Commands are imported when they are called, and the classes of errors when there is one, so that help takes no time.
"""

import io
import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from haq.execution.termination import INTERRUPTED, EndingSignals, signals_exit

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

READER_GONE = 141
STANDARD_OUTPUT = "standard output"


class _StandardOutput(io.FileIO):
    """Standard output whose errors name it, as errors of files name the file."""

    def write(self, content: "ReadableBuffer", /) -> int:
        """Write as many bytes as fit and return their number."""
        try:
            return super().write(content)
        except OSError as error:
            error.filename = STANDARD_OUTPUT
            raise


def process() -> int:
    """Run the command of this process; signals and prints of compiled libraries are handled."""
    signals = EndingSignals()
    signals.install()
    code = _in_own_output()
    signals.end()
    return signals.exit_code or code if code == INTERRUPTED else code


def _in_own_output() -> int:
    """Run the command of this process with a standard output that only this module writes to."""
    if sys.stdout is None:  # closed by the caller
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  for as long as the process lives
        return main()
    encoding, ours = sys.stdout.encoding, _StandardOutput(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(ours), encoding=encoding, line_buffering=ours.isatty())
    return main()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: The command line without `haq`; by default that of this process.

    Returns:
        The exit code.
    """
    with signals_exit():
        from haq.cli.app import app

    try:
        # A number is what Typer makes of a KeyboardInterrupt; commands themselves return nothing.
        code = app(args=None if arguments is None else list(arguments), standalone_mode=False, prog_name="haq")
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has seen enough
        _drop_output()
        return READER_GONE
    except _user_errors() as error:
        return _refuse(_with_suggestion(error.format_message()) if hasattr(error, "format_message") else str(error))
    except OSError as error:  # a file that cannot be read or written
        if error.filename == STANDARD_OUTPUT:
            _drop_output()
        subject = "" if error.filename is None else f"cannot use {error.filename}: "
        return _refuse(f"{subject}{error.strerror or error}")
    except (MemoryError, RuntimeError) as error:
        from haq.execution.memory import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        return _refuse("memory does not suffice; lower --eval-batch or --batch-size, or use a smaller --input")
    except KeyboardInterrupt:
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def _user_errors() -> tuple[type[Exception], ...]:
    """Return the classes of errors that are one line for the user."""
    with signals_exit():
        from typer.exceptions import TyperException

        from envs.choices import BudgetError
        from haq.errors import UserError
        from hardware_sim.cost import UnsupportedError
        from hardware_sim.description_files import DescriptionError

    return TyperException, UserError, UnsupportedError, BudgetError, DescriptionError


def _with_suggestion(message: str) -> str:
    """Add similar choices to Typer's message on a value that is none of the choices.

    >>> _with_suggestion("Invalid value for '--agent': 'gredy' is not one of 'random', 'greedy'.")
    "Invalid value for '--agent': 'gredy' is not one of 'random', 'greedy'; did you mean greedy?"
    """
    with signals_exit():
        from haq.errors import suggestion

    found = re.fullmatch(r".*'(.*)' is not one of (.*)\.", message, flags=re.DOTALL)
    hint = "" if found is None else suggestion(found[1], re.findall(r"'([^']*)'", found[2]))
    return message.removesuffix(".") + hint if hint else message


def _refuse(message: str) -> int:
    from haq.errors import printable

    line = " ".join(message.replace("Value error, ", "").split())
    # Names in files may hold control characters, which do not reach the terminal.
    sys.stderr.write(f"haq: {printable(line)}\n")
    return 2


def _drop_output() -> None:
    """Discard the rest of standard output, which would fail again at the end of the process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(process())

"""Signals that end a command: Ctrl-C (SIGINT), and SIGTERM as schedulers send it before they kill."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM
"""Exit codes of a command that a signal ended, as shells report them."""
_SHOW_CURSOR = b"\x1b[?25h\n"


class EndingSignals:
    """Handlers of SIGINT and SIGTERM for a command.

    The first signal raises KeyboardInterrupt, so that locks are released and displays are closed; one that follows
    ends the process at once, without a traceback.

    Attributes:
        exit_code: Exit code for the first signal; None before one came.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None

    def install(self) -> None:
        """Handle the signals from now on, except where the caller of this process set SIGINT to be ignored."""
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, self.interrupt)
        signal.signal(signal.SIGTERM, self.interrupt)

    def interrupt(self, number: int, _: FrameType | None) -> None:
        """Raise KeyboardInterrupt, and let further signals end the process at once.

        Args:
            number: Number of the signal.

        Raises:
            KeyboardInterrupt: Always.
        """
        self.exit_code = 128 + number
        self.end()
        raise KeyboardInterrupt

    def end(self) -> None:
        """Let further signals end the process at once, since the command has ended."""
        for each in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(each) is not signal.SIG_IGN:
                signal.signal(each, self._exit_at_once)

    def _exit_at_once(self, number: int, _: FrameType | None) -> None:
        if sys.stderr is not None and sys.stderr.isatty():
            os.write(sys.stderr.fileno(), _SHOW_CURSOR)
        os._exit(self.exit_code or 128 + number)


@contextmanager
def signals_exit() -> Iterator[None]:
    """End the process at once at SIGINT and SIGTERM.

    This is for imports, as libraries that are being imported may catch an exception or garble it. Signals that the
    caller of the process set to be ignored still are.

    Returns:
        Context manager.
    """
    if current_thread() is not main_thread():
        yield
        return
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    handled = {each: handler for each, handler in before.items() if handler is not signal.SIG_IGN}
    for each in handled:
        signal.signal(each, lambda number, _: os._exit(128 + number))
    try:
        yield
    finally:
        for each, handler in handled.items():
            signal.signal(each, handler)


@contextmanager
def termination_deferred() -> Iterator[Callable[[], bool]]:
    """Defer SIGTERM in a command to the end of the context, where a checkpoint can be written.

    A second SIGTERM is not deferred, and neither is Ctrl-C. Without the handlers of `EndingSignals`, as where haq is a
    library, nothing is deferred.

    Yields:
        Function that returns whether a SIGTERM came, after which the context is to end soon.

    Raises:
        KeyboardInterrupt: At the end of the context, if a SIGTERM came.
    """
    before, received = signal.getsignal(signal.SIGTERM), False
    signals = getattr(before, "__self__", None)
    if not isinstance(signals, EndingSignals) or current_thread() is not main_thread():
        yield lambda: False
        return

    def defer(*_: object) -> None:
        nonlocal received
        received = True
        signal.signal(signal.SIGTERM, before)

    signal.signal(signal.SIGTERM, defer)
    try:
        yield lambda: received
    finally:
        if signal.getsignal(signal.SIGTERM) is defer:
            signal.signal(signal.SIGTERM, before)
    if received:
        signals.interrupt(signal.SIGTERM, None)

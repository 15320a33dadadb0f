"""SIGTERM in a command: deferred to where a checkpoint can be written; a second one is not."""

import os
import signal
from collections.abc import Iterator

import pytest

from haq.execution.termination import EndingSignals, termination_deferred


@pytest.fixture
def signals() -> Iterator[EndingSignals]:
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    found = EndingSignals()
    found.install()
    yield found
    for each, handler in before.items():
        signal.signal(each, handler)


def send_terminations(count: int, seen: list[bool], error: Exception | None = None) -> None:
    """Send so many SIGTERM to this process in a context that defers them, and see before and after each."""
    with termination_deferred() as terminated:
        seen.append(terminated())
        for _ in range(count):
            os.kill(os.getpid(), signal.SIGTERM)
            seen.append(terminated())
        if error is not None:
            raise error


def test_termination_is_deferred_to_the_end_of_the_context(signals: EndingSignals) -> None:
    seen = list[bool]()
    with pytest.raises(KeyboardInterrupt):
        send_terminations(1, seen)
    assert (seen, signals.exit_code) == ([False, True], 143)


def test_second_termination_interrupts_at_once(signals: EndingSignals) -> None:
    seen = list[bool]()
    with pytest.raises(KeyboardInterrupt):
        send_terminations(2, seen)
    assert (seen, signals.exit_code) == ([False, True], 143)


def test_without_a_signal_the_handler_is_as_before(signals: EndingSignals) -> None:
    with termination_deferred() as terminated:
        assert not terminated()
    assert signal.getsignal(signal.SIGTERM) == signals.interrupt
    assert signals.exit_code is None


def test_handlers_of_other_programs_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with termination_deferred() as terminated:
        assert signal.getsignal(signal.SIGTERM) is before
        assert not terminated()


def test_error_in_the_context_comes_before_the_termination(signals: EndingSignals) -> None:
    with pytest.raises(OSError, match="full"):
        send_terminations(1, [], OSError("full"))
    assert signal.getsignal(signal.SIGTERM) == signals.interrupt


def test_ignored_interrupts_stay_ignored(signals: EndingSignals) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signals.install()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    with pytest.raises(KeyboardInterrupt):
        signals.interrupt(signal.SIGTERM, None)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN

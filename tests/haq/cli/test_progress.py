"""Phases as plain lines, and when they are held back."""

from collections.abc import Callable

import pytest

from haq.cli.progress import PlainPhases


class Timers:
    """Stands in for `threading.Timer`; `expire` lets the time pass."""

    def __init__(self, _: float, function: Callable[[], None]) -> None:
        self.expire, self.daemon = function, False
        self.ident: int | None = None

    def start(self) -> None:
        self.ident = 1

    def cancel(self) -> None: ...


@pytest.fixture
def timer(monkeypatch: pytest.MonkeyPatch) -> list[Timers]:
    made: list[Timers] = []

    def make(seconds: float, function: Callable[[], None]) -> Timers:
        made.append(Timers(seconds, function))
        return made[-1]

    monkeypatch.setattr("haq.cli.progress.Timer", make)
    monkeypatch.setattr("haq.cli.progress.monotonic", lambda: 1.0)
    return made


def test_a_phase_is_a_line_that_its_seconds_complete(timer: list[Timers], capsys: pytest.CaptureFixture[str]) -> None:
    shown = PlainPhases()
    shown.phase("calibrate")
    assert capsys.readouterr().err == "calibrate ... "
    shown.phase("report")
    assert capsys.readouterr().err == "0.0 s\nreport ... "
    shown.close()
    assert capsys.readouterr().err == "0.0 s\n"
    assert len(timer) == 1


@pytest.mark.usefixtures("timer")
def test_early_phases_are_shown_with_the_first_later_one(capsys: pytest.CaptureFixture[str]) -> None:
    shown = PlainPhases()
    for name in ("load", "trace"):
        shown.phase(name)
    assert capsys.readouterr().err == ""
    shown.phase("calibrate")
    assert capsys.readouterr().err == "load ... 0.0 s\ntrace ... 0.0 s\ncalibrate ... "


@pytest.mark.usefixtures("timer")
def test_early_phases_are_not_shown_before_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    shown = PlainPhases()
    shown.phase("load")
    shown.close()
    assert capsys.readouterr().err == ""


def test_early_phases_that_take_long_are_shown(timer: list[Timers], capsys: pytest.CaptureFixture[str]) -> None:
    shown = PlainPhases()
    shown.phase("load")
    timer[0].expire()
    assert capsys.readouterr().err == "load ... "
    shown.close()
    assert capsys.readouterr().err == "0.0 s\n"

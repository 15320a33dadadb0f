"""Plain progress: the lines of phases and loops, and when they are held back."""

import pickle
from collections.abc import Callable

import pytest

from haq.cli.progress import LinesOnly, LiveProgress, PlainProgress, shown_progress
from haq.execution.progress import Silent, Watcher


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


def test_a_phase_is_one_line_with_its_seconds(timer: list[Timers], capsys: pytest.CaptureFixture[str]) -> None:
    shown = PlainProgress()
    shown.phase("calibrate")
    assert capsys.readouterr().err == "calibrate ... "
    shown.phase("report")
    assert capsys.readouterr().err == "0.0 s\nreport ... "
    shown.close()
    assert capsys.readouterr().err == "0.0 s\n"
    assert len(timer) == 1


@pytest.mark.usefixtures("timer")
def test_lines_of_early_phases_are_printed_with_the_first_later_phase(capsys: pytest.CaptureFixture[str]) -> None:
    shown = PlainProgress()
    for name in ("load", "trace"):
        shown.phase(name)
    assert capsys.readouterr().err == ""
    shown.phase("calibrate")
    assert capsys.readouterr().err == "load ... 0.0 s\ntrace ... 0.0 s\ncalibrate ... "


@pytest.mark.usefixtures("timer")
def test_lines_of_early_phases_are_dropped_when_the_command_fails_in_one(capsys: pytest.CaptureFixture[str]) -> None:
    shown = PlainProgress()
    shown.phase("load")
    shown.close()
    assert capsys.readouterr().err == ""


def test_held_lines_are_printed_after_a_while(timer: list[Timers], capsys: pytest.CaptureFixture[str]) -> None:
    shown = PlainProgress()
    shown.phase("load")
    timer[0].expire()
    assert capsys.readouterr().err == "load ... "
    shown.close()
    assert capsys.readouterr().err == "0.0 s\n"


@pytest.mark.usefixtures("timer")
def test_a_loop_prints_at_most_twenty_lines_and_its_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    shown = PlainProgress()
    shown.phase("load")
    shown.begin("episode", 100)
    for done in range(1, 101):
        shown.step(done, "best 97 %")
    shown.end()
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["load ... 0.0 s", "episode 5/100  best 97 %  0 s left"]
    assert len(lines) == 1 + 20 + 1
    assert lines[-1] == "episodes ... 0.0 s"


@pytest.mark.usefixtures("timer")
def test_a_line_ends_the_phase_and_wraps_at_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    shown = PlainProgress()
    shown.phase("calibrate")
    shown.line("word " * 20)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "calibrate ... 0.0 s"
    assert (lines[1], lines[2]) == (" ".join(["word"] * 16), "  " + " ".join(["word"] * 4))


@pytest.mark.parametrize("kind", [PlainProgress, LiveProgress])
def test_in_another_process_only_whole_lines_are_printed(
    kind: type[PlainProgress | LiveProgress], capsys: pytest.CaptureFixture[str]
) -> None:
    there: Watcher = pickle.loads(pickle.dumps(kind()))  # noqa: S301  our own
    there.phase("load")
    there.begin("episode", 2)
    there.step(1)
    there.end()
    assert capsys.readouterr().err == ""
    there.line("seed 0 is done")
    assert capsys.readouterr().err == "seed 0 is done\n"


@pytest.mark.parametrize("make", [PlainProgress, LiveProgress, LinesOnly, Silent])
def test_every_watcher_takes_the_calls_of_a_workflow(make: Callable[[], Watcher]) -> None:
    watcher = make()
    watcher.phase("load")
    watcher.warn("few images")
    watcher.line("digits_cnn (15 layers)")
    watcher.begin("step", 3, done=1)
    watcher.step(2, "loss 0.1")
    watcher.line("epoch 1/1")
    watcher.step(3)
    watcher.end()
    watcher.phase("report")


def test_quiet_progress_is_silent() -> None:
    with shown_progress(quiet=True) as watcher:
        assert isinstance(watcher, Silent)

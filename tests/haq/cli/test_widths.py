"""What commands print fits a terminal of 80 columns, also for a network of 53 layers, and has no colours if asked."""

import re
import sys
from io import StringIO
from pathlib import Path

import pytest

from haq.__main__ import main
from haq.cli.progress import LiveProgress

RESULTS = Path(__file__).resolve().parents[3] / "results"
POLICIES = [f"mobilenet_v2/mobilenet_v2-{name}-5bits/policy.json" for name in ("bismo-edge", "size")]
MODEL = ("--model", "torchvision:mobilenet_v2")
DEVICES = "bismo-edge,bismo-cloud,gpu-t4,bitfusion-edge,bitfusion-cloud,systolic-tpu"


class Terminal(StringIO):
    """A terminal whose width the variable COLUMNS says."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--help",),
        ("search", "--help"),
        ("layers", *MODEL),
        ("simulate", *MODEL, "--w-bits", "4"),
        ("simulate", *MODEL, "--compare", DEVICES),
        ("policy", "show", POLICIES[0]),
        ("policy", "diff", *POLICIES),
        ("hardware",),
        ("hardware", "show", "bismo-edge"),
        ("hardware", "show", "mcu-cortex-m7-measured"),
        ("doctor",),
        ("explain", "quick_start"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_lines_fit_80_columns(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.chdir(RESULTS)  # paths are printed as they are given
    assert main(arguments) == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()).splitlines()
    assert len(lines) > 5
    assert max(map(len, lines)) <= 80


def test_no_color_leaves_out_colours_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    shown = {}
    for no_color in ("", "1"):
        terminal = Terminal()
        monkeypatch.setenv("NO_COLOR", no_color)
        monkeypatch.setattr(sys, "stderr", terminal)
        progress = LiveProgress()
        progress.begin("episode", 2)
        progress.step(2, "best 99 %")
        progress.close()
        shown[no_color] = re.findall(r"\x1b\[(?:[0-9]+;)*(?:3|4|9)[0-9][;0-9]*m", terminal.getvalue())
    assert shown[""]
    assert not shown["1"]

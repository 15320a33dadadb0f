"""Output of the exporter and of onnxruntime is suppressed."""

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from haq.evaluation.engines.onnxruntime.silence import silent

NETWORK = """
import os
import torch
from torch import nn

class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(256, 8), nn.Linear(8, 10)

    def forward(self, x):
        h = self.first(x.flatten(1))
        if torch.compiler.is_compiling():
            print("from Python")
            os.write(1, b"to descriptor 1")
            os.write(2, b"to descriptor 2")
        return self.last(h if h.sum() > 0 else -h)

def model():
    torch.manual_seed(0)
    return Branching()
"""
FLAGS = ("--search-images", "20", "--report-images", "20", "--calibration-images", "20", "--episodes", "2")


def test_silent_discards_all_output(capfd: pytest.CaptureFixture[str]) -> None:
    with silent():
        print("Python")
        os.write(1, b"descriptor 1")
        os.write(2, b"descriptor 2")
        logging.getLogger("torch").error("a page")
        warnings.warn("something", stacklevel=1)
    print("seen")
    assert capfd.readouterr() == ("seen\n", "")


def test_failing_exporter_prints_nothing_with_quiet(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(NETWORK)
    command = [sys.executable, "-m", "haq", "search", "--model", "mine:model", *FLAGS, "--quiet", "--json"]
    ours = os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*command, "--first-last-bits", "free", "--out", "run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ours},
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(line.startswith(("!!!", "WARNING: ")) for line in done.stderr.splitlines())
    assert "data-dependent" in (tmp_path / "run" / "config.json").read_text()

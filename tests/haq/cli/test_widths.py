"""What commands print fits a terminal of 80 columns, also for a network of 53 layers, and has no colours if asked."""

import re
import shutil
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

from haq.__main__ import main
from haq.cli.progress import LiveProgress
from haq.experiment.prior.measured import PARTS
from haq.exporters.records import (
    CodesRecord,
    ExportRecord,
    FileRecord,
    LayerRecord,
    OutputRecord,
    RuntimeRecord,
    VerificationRecord,
)
from haq.exporters.registry import RUNTIMES
from haq.policy import load_policy
from haq.runs.records import Metric
from haq.sensitivity.records import SensitivityDocument, SensitivityLayer, SensitivityRow

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
    monkeypatch.chdir(RESULTS)  # paths are printed as they are given
    lines = printed(monkeypatch, *arguments)
    assert len(lines) > 5
    assert max(map(len, lines)) <= 80


def printed(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[str]:
    """Run a command in a terminal of 80 columns, and return the lines on standard output without colours."""
    terminal = Terminal()
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(arguments) == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()).splitlines()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("finetune", "--epochs", "1"), "fine-tuned"),
        (("reconstruct", "--steps", "1"), "reconstructed"),
        (("pareto", "--budgets", "0.6", "--agent", "random", "--prior", "none", "--episodes", "2"), "uniform bits"),
        (("compare", "--budgets", "0.6", "--agents", "uniform,random", "--at", "2", "--seeds", "2"), "CPU s"),
    ],
    ids=lambda words: words[0],
)
def test_tables_of_finished_runs_fit_80_columns(
    arguments: tuple[str, ...],
    expected: str,
    finished_run: Path,
    small_runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = arguments[0]
    monkeypatch.chdir(tmp_path)
    shutil.copytree(small_runs / kind, "run")
    images = ("--search-images", "50", "--report-images", "40", "--calibration-images", "64", "--engine", "torch")
    more = images if kind in ("pareto", "compare") else (str(finished_run),)
    lines = printed(monkeypatch, *arguments, *more, "--out", "run", "--resume", "--quiet")
    assert any(expected in line for line in lines)
    assert "`" not in "".join(lines)  # marks of the Markdown file
    assert max(map(len, lines)) <= 80


@pytest.fixture
def layers() -> list[str]:
    """The names of the 53 layers of MobileNet-V2."""
    return [layer.name for layer in load_policy(RESULTS / POLICIES[0]).layers]


def test_sensitivities_of_53_layers_fit_80_columns(layers: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    cells = tuple(
        SensitivityRow(layer=layer, part=part, bits=bits, divergence=1.2345e-10, fisher=1.2345e-10)
        for layer in layers
        for part in PARTS
        for bits in range(2, 9)
    )
    document = SensitivityDocument(
        fisher_forward_images=64,
        layers=tuple(SensitivityLayer(name=layer) for layer in layers),
        forward_images=4096,
        cells=cells,
    )
    monkeypatch.setattr("haq.cli.sensitivity.measure_sensitivities", lambda *_, **__: document)
    monkeypatch.setattr("haq.cli.sensitivity.draw_figures", lambda _: None)
    lines = printed(monkeypatch, "sensitivity", "--out", "run")
    assert len(lines) > len(layers)
    assert max(map(len, lines)) <= 80


def test_exported_files_of_53_layers_fit_80_columns(layers: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tuple(
        LayerRecord(
            name=layer,
            w_bits=4,
            a_bits=4,
            storage="int8 (QLinearConv)",
            weight_bytes=12_345_678,
            is_integer=place > 9,
            reason="" if place > 9 else "wider than 8 bits",
        )
        for place, layer in enumerate(layers)
    )
    record = ExportRecord(
        format="onnx",
        files=(FileRecord(path="network.onnx", bytes=12_345_678),),
        runtime="onnxruntime",
        outputs=OutputRecord(images=1000, same_predictions=0.999, noise=1e-5),
        layers=rows,
        notes=(),
    )
    monkeypatch.setattr("haq.cli.export.export_artifact", lambda *_, **__: record)
    monkeypatch.setattr("haq.cli.export.load_artifact", lambda *_, **__: None)
    lines = printed(monkeypatch, "export", "run")
    assert len(lines) > len(layers)
    assert max(map(len, lines)) <= 80


def test_verifications_of_53_layers_in_all_runtimes_fit_80_columns(
    layers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = VerificationRecord(
        model="m", metric=Metric(name="accuracy"), layers=tuple(layers), runtimes=tuple(verified(layers))
    )
    monkeypatch.setattr("haq.cli.verify.verify_artifact", lambda *_, **__: record)
    monkeypatch.setattr("haq.cli.verify.load_artifact", lambda *_, **__: None)
    lines = printed(monkeypatch, "verify", "run")
    assert len(lines) > len(layers)
    assert max(map(len, lines)) <= 80


def verified(layers: list[str]) -> Iterator[RuntimeRecord]:
    """Verifications of large layers in all runtimes, without a difference."""
    codes = tuple(
        CodesRecord(layer=layer, is_integer=True, reason="", compared=123_456_789, differing=0) for layer in layers
    )
    outputs = OutputRecord(images=50_000, same_predictions=1.0, noise=1.2e-15)
    for name in RUNTIMES:
        yield RuntimeRecord(
            name=name,
            format="qonnx",
            file_bytes=12_345_678,
            score=0.7123,
            expected_score=0.7123,
            outputs=outputs,
            layers=codes,
        )


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

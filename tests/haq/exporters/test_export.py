"""The way from an artifact to files: verified first, written whole or not at all."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import haq
from haq.__main__ import main
from haq.errors import HaqWarning, UserError
from haq.execution.structures import Structure, item_count
from haq.exporters import registry
from haq.exporters.deployable import Deployable
from haq.exporters.formats import Export, ExportedLayer, ExportOptions, FormatName
from haq.exporters.protocols import LayerCodes
from haq.tasks.predictions import Runner


class TextExporter:
    """Exporter of two files of text, which name each other."""

    format: FormatName = "c"
    suffix = ".c"
    runtimes = ("text",)

    def build(self, network: Deployable, options: ExportOptions) -> Export:
        layers = tuple(
            ExportedLayer(name=layer.name, w_bits=layer.w_bits, a_bits=layer.a_bits, storage="text", weight_bytes=1)
            for layer in network.policy.layers
        )
        files = {".c": f"#include {options.stem}.h".encode(), ".h": b"header"}
        return Export(format="c", files=files, bits=network.bits, layers=layers, notes=("a note",))


class TextRuntime:
    """Runtime whose outputs are those of the quantized network, changed by `change`."""

    name, format, max_images = "text", "c", None
    reason: str | None = None
    differing = 0

    def missing(self) -> str | None:
        return self.reason

    def change(self, outputs: Structure) -> Structure:
        return outputs

    def runner(self, export: Export, network: Deployable) -> Runner:
        run = network.quantized(export.bits)
        return lambda inputs: self.change(run(inputs))

    def layer_codes(self, export: Export, _: Deployable, inputs: Structure) -> Iterator[LayerCodes]:
        for layer in export.layers:
            yield LayerCodes(layer=layer.name, is_integer=True, compared=item_count(inputs), differing=self.differing)


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> TextRuntime:
    """The exporter and its runtime, registered in place of all others."""
    found = TextRuntime()
    monkeypatch.setattr(registry, "EXPORTERS", {"c": TextExporter})
    for module in ("registry", "verify"):
        monkeypatch.setattr(f"haq.exporters.{module}.RUNTIMES", {"text": lambda: found})
    return found


def test_files_are_written_under_the_name_that_was_given(digits_run: Path, tmp_path: Path) -> None:
    record = haq.export(digits_run, "c", out=tmp_path / "digits.c")
    assert [file.path for file in record.files] == [str(tmp_path / "digits.c"), str(tmp_path / "digits.h")]
    assert (tmp_path / "digits.c").read_text() == "#include digits.h"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits.c", "digits.h"]
    assert record.runtime == "text"
    assert record.outputs is not None
    assert record.outputs.noise == 0


def test_the_default_name_is_that_of_the_network_in_the_folder_of_the_run(digits_run: Path) -> None:
    record = haq.export(digits_run, "c")
    assert record.files[0].path == str(digits_run / "digits_cnn.c")


def test_a_symbolic_link_that_is_named_stays_and_its_target_is_written(digits_run: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "n.c"
    link.symlink_to(tmp_path / "disk" / "real.c")
    record = haq.export(digits_run, "c", out=link)
    assert record.files[0].path == str(link)
    assert link.is_symlink()
    assert (tmp_path / "disk" / "real.c").read_text() == "#include n.h"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "n.c", "n.h"]


def test_a_link_in_the_folder_of_a_run_is_replaced(digits_run: Path, tmp_path: Path) -> None:
    outside, link = tmp_path / "outside", digits_run / "digits_cnn.h"
    outside.write_text("mine")
    link.unlink(missing_ok=True)
    link.symlink_to(outside)
    haq.export(digits_run, "c")
    assert outside.read_text() == "mine"
    assert not link.is_symlink()


@pytest.mark.parametrize("artifact", [None, 5, b"run"])
def test_what_is_no_artifact_is_refused(artifact: Any) -> None:
    for call in (haq.export, haq.evaluate, haq.load):
        with pytest.raises(UserError, match="is no path; give "):
            call(artifact)


def test_an_out_that_is_no_path_is_refused(digits_run: Path) -> None:
    with pytest.raises(UserError, match="out=5 is no path; give a path"):
        haq.export(digits_run, "c", out=5)  # type: ignore[arg-type]


def test_a_policy_file_alone_is_exported_with_the_settings_of_its_search(
    digits_run: Path, few_images: dict[str, Any], tmp_path: Path
) -> None:
    policy = haq.load_policy(digits_run / "policy.json")
    policy.save(tmp_path / "policy.json")
    record = haq.export(tmp_path / "policy.json", "c", out=tmp_path / "n.c", hardware="bismo-edge", **few_images)
    assert record.outputs is not None
    assert record.outputs.noise == 0


def test_files_that_compute_something_else_are_not_written(
    digits_run: Path, tmp_path: Path, runtime: TextRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "change", lambda outputs: -outputs)
    with pytest.raises(UserError, match="was not written: its outputs differ"):
        haq.export(digits_run, "c", out=tmp_path / "n.c")
    assert not list(tmp_path.iterdir())


def test_outputs_that_are_not_numbers_are_not_written(
    digits_run: Path, tmp_path: Path, runtime: TextRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "change", lambda outputs: outputs * torch.nan)
    with pytest.raises(UserError, match="was not written"):
        haq.export(digits_run, "c", out=tmp_path / "n.c")


def test_outputs_of_another_shape_are_named(
    digits_run: Path, tmp_path: Path, runtime: TextRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "change", lambda outputs: outputs[:, 1:])
    with pytest.raises(UserError, match=r"\[64, 9\] instead of \[64, 10\]"):
        haq.export(digits_run, "c", out=tmp_path / "n.c")


def test_a_missing_runtime_is_a_warning(
    digits_run: Path, tmp_path: Path, runtime: TextRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "reason", "install it")
    with pytest.warns(HaqWarning, match="not verified, since no runtime of this format is here .text: install it."):
        record = haq.export(digits_run, "c", out=tmp_path / "n.c")
    assert (record.runtime, record.outputs) == (None, None)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("n.onnx", "a file of --format c ends in .c"),
        (".c", "a file of --format c ends in .c"),
        ("missing/n.c", "there is no folder"),
        (".", "is a folder; name a file"),
    ],
)
def test_a_path_that_cannot_be_the_file_is_one_line(
    digits_run: Path, tmp_path: Path, out: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(digits_run), "--format", "c", "--out", str(tmp_path / out)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_full_disk_changes_no_file(
    digits_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "n.h").write_text("old")
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("haq.files.os.fsync", full)
    assert main(["export", str(digits_run), "--format", "c", "--out", str(tmp_path / "n.c")]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["n.h"]
    assert (tmp_path / "n.h").read_text() == "old"


def test_the_command_prints_layers_notes_and_files(
    digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(digits_run), "--format", "c", "--out", str(tmp_path / "n.c")]) == 0
    output = capsys.readouterr().out
    for text in ("stem.0", "a note", "verified in text on 64 search images: 100.0 % of predictions agree", "n.h"):
        assert text in output


def test_verify_names_what_is_missing_and_exits_with_1_for_differing_codes(
    digits_run: Path, runtime: TextRuntime, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(digits_run)]) == 0
    assert re.search(r"of all codes +120", capsys.readouterr().out)
    monkeypatch.setattr(runtime, "differing", 3)
    assert main(["verify", str(digits_run), "--runtime", "text", "--images", "5"]) == 1
    assert re.search(r"stem\.0 +3", capsys.readouterr().out)
    monkeypatch.setattr(runtime, "reason", "install it")
    assert main(["verify", str(digits_run)]) == 0
    assert "not verified in text: install it" in capsys.readouterr().out


def test_an_unknown_runtime_is_one_line(digits_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(digits_run), "--runtime", "tensorrt"]) == 2
    assert "--runtime tensorrt is unknown; runtimes are text" in capsys.readouterr().err
    assert main(["verify", str(digits_run), "--runtime", "tensorrt", "--runtime", "text"]) == 2
    assert "--runtime tensorrt is unknown" in capsys.readouterr().err
    assert main(["verify", str(digits_run), "--runtime", ","]) == 2
    assert "--runtime ',' names no runtime; runtimes are " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--compact",), "--compact is an option of --format onnx"),
        (("--for", "finn"), "--for finn is an option of --format qonnx"),
        (("--no-lookup-tables",), "--no-lookup-tables is an option of --format tflite"),
    ],
)
def test_an_option_of_another_format_is_refused_in_one_line(
    digits_run: Path, tmp_path: Path, flags: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(digits_run), "--format", "c", "--out", str(tmp_path / "n.c"), *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_runtime_that_is_named_twice_runs_once(digits_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(digits_run), "--runtime", "text", "--runtime", "text", "--images", "2", "--json"]) == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)["runtimes"]] == ["text"]


def test_codes_are_compared_on_no_more_images_than_predictions(
    digits_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(digits_run), "--images", "2", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["runtimes"]
    assert found["outputs"]["images"] == 2
    assert {layer["compared"] for layer in found["layers"]} == {2}


def test_an_unknown_toolchain_is_refused_with_the_known_ones(digits_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--for vivado is unknown; tools are finn, hls4ml"):
        haq.export(digits_run, "c", out=tmp_path / "n.c", toolchain="vivado")  # type: ignore[arg-type]

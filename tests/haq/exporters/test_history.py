"""Records of exports and verifications in the folder of a run."""

import json
import shutil
from pathlib import Path

import pytest

import haq
from haq.errors import UserError
from haq.experiment.artifact import load_artifact
from haq.exporters.history import read_exports, read_verification, record_export, record_verification
from haq.exporters.records import ExportRecord, FileRecord, OutputRecord, RuntimeRecord, VerificationRecord
from haq.reporting.page.facts import exports_table, verification_table
from haq.reporting.page.runs import read_run
from haq.runs.records import Metric
from haq.runs.run_folder import RunFolder

OUTPUTS = OutputRecord(images=64, same_predictions=0.984375, noise=0.0012)


def export(name: str, *, noise: float = 0.0012) -> ExportRecord:
    return ExportRecord(
        format="onnx",
        files=(FileRecord(path=f"/somewhere/{name}", bytes=2048),),
        runtime="onnxruntime",
        outputs=OUTPUTS.model_copy(update={"noise": noise}),
        layers=(),
        notes=(),
    )


VERIFICATION = VerificationRecord(
    model="digits_cnn",
    metric=Metric(name="accuracy"),
    layers=("fc",),
    runtimes=(
        RuntimeRecord(name="torch", format="onnx", file_bytes=9, score=0.5, expected_score=0.25, outputs=OUTPUTS),
        RuntimeRecord(name="tflite", format="tflite", missing="no interpreter"),
    ),
)


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def test_the_last_export_of_every_file_is_recorded_without_its_folder(run: Path) -> None:
    artifact = load_artifact(run)
    for record in (export("a.onnx"), export("b.onnx"), export("a.onnx", noise=0.5)):
        record_export(artifact, record)
    found = read_exports(RunFolder(run))
    assert [record.files[0].path for record in found] == ["b.onnx", "a.onnx"]
    assert found[1].outputs is not None
    assert found[1].outputs.noise == 0.5
    table = exports_table(read_run(run, label="run"))
    assert table is not None
    assert table.rows[0] == ("b.onnx", "onnx", "2 KiB", "onnxruntime, 64 images", "98.4 %", "0.0012")


def test_the_last_verification_is_recorded(run: Path) -> None:
    assert read_verification(RunFolder(run)) is None
    record_verification(load_artifact(run), VERIFICATION)
    found = read_verification(RunFolder(run))
    assert found == VERIFICATION
    segments = OUTPUTS.model_copy(update={"images": 1, "items": "segments"})
    of_text = VERIFICATION.model_copy(
        update={"runtimes": (VERIFICATION.runtimes[0].model_copy(update={"outputs": segments}),)}
    )
    assert verification_table(of_text).rows[0][2] == "1 segment"
    assert verification_table(found).rows == (
        ("torch", "onnx", "64 images", "50.00 %", "25.00 %", ""),
        ("tflite", "tflite", "not verified: no interpreter", "", "", ""),
    )


def test_other_bits_and_policies_outside_a_run_are_not_recorded(run: Path, tmp_path: Path) -> None:
    document = json.loads((run / "policy.json").read_text())
    document["layers"][1]["w_bits"] = 9 - document["layers"][1]["w_bits"]
    other = run / "other.json"
    other.write_text(json.dumps(document))
    alone = shutil.copy(run / "policy.json", tmp_path / "alone.json")
    for path in (other, Path(alone)):
        record_export(load_artifact(path), export("a.onnx"))
        record_verification(load_artifact(path), VERIFICATION)
    assert not list(run.glob("exports.json")) + list(run.glob("verification.json"))
    assert not list(tmp_path.glob("*s.json"))


def test_a_damaged_record_is_named_and_replaced_by_the_next_export(run: Path) -> None:
    (run / "exports.json").write_text("{")
    with pytest.raises(UserError, match=r"exports\.json is damaged"):
        read_exports(RunFolder(run))
    record_export(load_artifact(run), export("a.onnx"))
    assert len(read_exports(RunFolder(run))) == 1


def test_a_real_export_is_recorded(run: Path) -> None:
    haq.export(run, "packed")
    (record,) = read_exports(RunFolder(run))
    assert (run / record.files[0].path).is_file()
    assert record.outputs is not None

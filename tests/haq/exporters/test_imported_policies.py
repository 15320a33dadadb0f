"""A policy of another tool on its whole way: imported, evaluated, learned with, and exported in all formats."""

import json
from pathlib import Path

import pytest

from haq.__main__ import main
from haq.exporters.aimet.exporter import VERSION_1, VERSION_2
from haq.exporters.registry import EXPORTERS, make_exporter, make_runtime
from haq.policy import load_policy

NETS = """
import torch
from torch import nn

class Brightest(torch.utils.data.Dataset):
    def __init__(self, count, seed):
        self.images = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        quarters = self.images[index, 0].unfold(0, 4, 4).unfold(1, 4, 4).mean(dim=(2, 3))
        return self.images[index], int(quarters.argmax())

def data():
    names = ("train", "calibration", "search", "report")
    return {name: Brightest(32, seed) for seed, name in enumerate(names)}

def net():
    torch.manual_seed(0)
    parts = (nn.Conv2d(1, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU())
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(16, 4))
"""
TABLE = "layer,w_bits,a_bits\n0,8,8\n3,4,6\n6,3,8\n"
FLAGS = ("--model", "imported_nets:net", "--data", "imported_nets:data")
ARTIFACTS = {"imported": "policy.json", "fine-tuned": "finetuned", "reconstructed": "reconstructed"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An imported policy, and what a fine-tuning and a reconstruction made of it."""
    path = tmp_path_factory.mktemp("imported")
    (path / "imported_nets.py").write_text(NETS)
    (path / "bits.csv").write_text(TABLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        assert main(["policy", "import", "bits.csv", *FLAGS, "--out", "policy.json"]) == 0
        assert main(["finetune", "policy.json", *FLAGS, "--epochs", "1", "--out", "finetuned", "--quiet"]) == 0
        learned = ("--steps", "4", "--out", "reconstructed", "--quiet")
        assert main(["reconstruct", "policy.json", *FLAGS, *learned]) == 0
    return path


@pytest.fixture(autouse=True)
def _in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


@pytest.mark.parametrize("artifact", ARTIFACTS.values(), ids=ARTIFACTS)
def test_bits_of_the_table_are_those_of_every_artifact(folder: Path, artifact: str) -> None:
    path = folder / artifact
    policy = load_policy(path / "policy.json" if path.is_dir() else path)
    assert [(layer.name, layer.w_bits, layer.a_bits) for layer in policy.layers] == [
        ("0", 8, 8),
        ("3", 4, 6),
        ("6", 3, 8),
    ]


def test_an_imported_policy_is_evaluated_priced_and_plotted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "policy.json", *FLAGS, "--json"]) == 0
    assert 0 <= json.loads(capsys.readouterr().out)["accuracy"] <= 1
    assert main(["simulate", "policy.json", *FLAGS, "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)["layers"]
    assert [(layer["w_bits"], layer["a_bits"]) for layer in layers] == [(8, 8), (4, 6), (3, 8)]
    assert main(["plot", "policy.json"]) == 0
    assert (folder / "policy.png").stat().st_size > 0


@pytest.mark.parametrize("name", EXPORTERS)
@pytest.mark.parametrize("artifact", ARTIFACTS.values(), ids=ARTIFACTS)
def test_an_artifact_is_exported_and_verified(
    artifact: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exporter = make_exporter(name)
    if all(make_runtime(runtime).missing() for runtime in exporter.runtimes):
        pytest.skip(f"no runtime of {name} is here")
    out = tmp_path / f"net{exporter.suffix}"
    assert main(["export", artifact, *FLAGS, "--format", name, "--out", str(out), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [layer["w_bits"] for layer in record["layers"]] == [8, 4, 3]
    assert record["outputs"]["noise"] < 0.1
    assert out.stat().st_size > 0


@pytest.mark.parametrize("artifact", ["finetuned", "reconstructed"])
def test_compact_files_of_learned_artifacts_store_narrow_weights(
    artifact: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "net.onnx"
    assert main(["export", artifact, *FLAGS, "--compact", "--out", str(out), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [layer["storage"] for layer in record["layers"]] == ["int8", "int4", "int8"]
    assert record["outputs"]["noise"] < 0.01
    assert record["outputs"]["same_predictions"] == 1


def test_encodings_of_an_export_give_the_policy_back(folder: Path, tmp_path: Path) -> None:
    out, back = tmp_path / "net.onnx", tmp_path / "back.json"
    assert main(["export", "policy.json", *FLAGS, "--format", "aimet", "--out", str(out)]) == 0
    for suffix in (VERSION_1, VERSION_2):
        file = str(tmp_path / f"net{suffix}")
        assert main(["policy", "import", file, *FLAGS, "--onnx", str(out), "--out", str(back)]) == 0
        assert load_policy(back).layers == load_policy(folder / "policy.json").layers


def test_settings_that_trained_quantizers_do_not_follow_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "finetuned", *FLAGS, "--zero-points", "none", "--out", "n.onnx"]) == 2
    error = capsys.readouterr().err
    assert "learned with other settings; leave out --zero-points" in error
    assert error.count("\n") == 1

"""Artifacts: what searches, reconstructions and fine-tunings leave, loaded and run again."""

import json
import pickle
import shutil
import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

import haq
from haq.__main__ import main
from haq.errors import HaqWarning, UserError
from haq.experiment.artifact import Artifact
from haq.quantization.quantized_model import QuantizedModel
from haq.quantization.training.network import TrainableNetwork
from haq.runs.code_origins import record_callables
from haq.tasks.classification import ClassificationTask

RESULTS = Path(__file__).resolve().parents[3] / "results"
SOURCE = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, stride=3),
                         nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))

def data():
    generator = torch.Generator().manual_seed(1)
    items = [(torch.randn(1, 8, 8, generator=generator) + index % 2, index % 2) for index in range(40)]
    return {name: items for name in ("calibration", "search", "report", "train")}
"""
OWN = ("--model", "artifact_nets:net", "--data", "artifact_nets:data")
SEARCH = ("--budget", "0.7", "--first-last-bits", "free", "--agent", "random", "--engine", "torch", "--quiet")
FILES = (
    "quantizers.safetensors",
    "network.safetensors",
    "example.safetensors",
    "layers.json",
    "policy.json",
    "config.json",
)
RUNS = ("search", "tuned", "reconstructed", "finetuned")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a module of model and data, and a run of every kind."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "artifact_nets.py").write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HAQ_CACHE", str(folder / "cache"))
        assert main(["search", *OWN, *SEARCH, "--episodes", "20", "--out", "search"]) == 0
        tuned = ("--episodes", "2", "--episode-finetune-steps", "2", "--out", "tuned")
        assert main(["search", *OWN, *SEARCH, *tuned]) == 0
        assert main(["reconstruct", "search", "--steps", "2", "--quiet", "--out", "reconstructed"]) == 0
        assert main(["finetune", "search", "--epochs", "1", "--quiet", "--out", "finetuned"]) == 0
    yield folder
    sys.modules.pop("artifact_nets", None)


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of that folder, as the current one of the user who made the runs."""
    copied = tmp_path / "work"
    shutil.copytree(made, copied)
    monkeypatch.chdir(copied)
    monkeypatch.setenv("HAQ_CACHE", str(tmp_path / "cache"))
    sys.modules.pop("artifact_nets", None)
    for run in RUNS:
        record_callables(Path(run), OWN[1::2])
    yield copied
    sys.modules.pop("artifact_nets", None)


def report_accuracy(model: nn.Module) -> float:
    """Accuracy on the report split of the module of `folder`."""
    items = sys.modules["artifact_nets"].data()["report"]
    with torch.no_grad():
        outputs = model(torch.stack([inputs for inputs, _ in items]))
    return (outputs.argmax(dim=1) == torch.tensor([label for _, label in items])).float().mean().item()


@pytest.mark.parametrize("run", RUNS)
def test_loading_needs_neither_network_nor_data(run: str, folder: Path) -> None:
    (folder / "artifact_nets.py").unlink()
    artifact = haq.load(run)
    assert artifact.path == Path(run)
    assert artifact.policy.version == 2
    assert artifact.quantizers["0.weight.scale"].shape == (4,)
    assert artifact.trace is not None
    assert artifact.example is not None
    assert artifact.example.shape == (1, 1, 8, 8)
    assert artifact.summary is not None
    cost = artifact.priced.table.policy_cost(artifact.policy.w_bits, artifact.policy.a_bits)
    assert cost.latency_s == pytest.approx(artifact.summary["cost"]["latency_s"])
    assert (artifact.network_state is not None) == (run in ("tuned", "finetuned"))
    assert bool(artifact.corrections.biases) == (run in ("search", "reconstructed"))
    with pytest.raises(UserError, match="add --model artifact_nets:net --data artifact_nets:data"):
        _ = artifact.model


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.usefixtures("folder")
def test_model_has_the_accuracy_that_the_run_reports(run: str) -> None:
    artifact = haq.load(run)
    assert isinstance(artifact.model, TrainableNetwork if run in ("tuned", "finetuned") else QuantizedModel)
    assert not any(module.training for module in artifact.model.modules())
    assert artifact.summary is not None
    assert report_accuracy(artifact.model) == pytest.approx(artifact.summary["accuracy"])
    assert haq.evaluate(artifact)["accuracy"] == artifact.summary["accuracy"] == haq.evaluate(run)["accuracy"]


def test_model_of_a_stored_trace_needs_no_data(folder: Path) -> None:
    expected = haq.load("search").model
    shown = haq.load("search").example
    (folder / "artifact_nets.py").write_text(SOURCE.replace("def data", "def removed"))
    sys.modules.pop("artifact_nets", None)
    record_callables(Path("search"), OWN[1::2])
    assert shown is not None
    with torch.no_grad():
        assert torch.equal(haq.load("search").model(shown), expected(shown))


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.usefixtures("folder")
def test_model_is_exported_with_its_outputs_for_any_batch(run: str, tmp_path: Path) -> None:
    model, path = haq.load(run).model, tmp_path / "model.pt2"
    batch = torch.export.Dim("batch")
    inputs = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(2)) * 3
    program = torch.export.export(model, (inputs[:2],), dynamic_shapes={"inputs": ({0: batch},)})
    torch.export.save(program, path)
    with torch.no_grad():
        expected = model(inputs)
        assert torch.allclose(torch.export.load(path).module()(inputs), expected, atol=1e-6)
        float_outputs = sys.modules["artifact_nets"].net().eval()(inputs)
    assert not torch.allclose(expected, float_outputs, atol=1e-3)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.usefixtures("folder")
def test_copy_of_the_model_is_quantized_too(run: str) -> None:
    model, inputs = haq.load(run).model, torch.ones(1, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(deepcopy(model)(inputs), model(inputs))


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("command", [("plot",), ("simulate",), ("plot", "--kind", "roofline"), ("explain",)])
def test_commands_on_a_run_need_neither_network_nor_data(command: tuple[str, ...], run: str, folder: Path) -> None:
    (folder / "artifact_nets.py").unlink()
    name, *flags = command
    is_search = run == "search"  # what was learned has no journal of policies, and `tuned` too few of them
    assert main([name, run, *flags]) == (0 if is_search or name != "explain" else 2)


@pytest.mark.usefixtures("folder")
def test_policy_file_alone_is_calibrated_from_the_data(tmp_path: Path) -> None:
    shutil.copy("search/policy.json", tmp_path / "policy.json")
    alone = haq.load(tmp_path / "policy.json", model="artifact_nets:net", task="artifact_nets:data", engine="torch")
    assert (alone.path, alone.summary, dict(alone.quantizers)) == (None, None, {})
    assert report_accuracy(alone.model) == pytest.approx(haq.evaluate("search")["accuracy"])


def test_foreign_folder_calls_no_code(folder: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "downloads"
    shutil.copytree("search", foreign)
    (folder / "artifact_nets.py").write_text("raise SystemExit('called')")
    artifact = haq.load(foreign)
    for use in (lambda: artifact.model, lambda: haq.evaluate(foreign), lambda: haq.evaluate(artifact.policy)):
        with pytest.raises(UserError, match="code to be called, but haq has no record"):
            use()


class Touch:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("unpickled"),)


@pytest.mark.parametrize("content", [b"", b"garbage", pickle.dumps(Touch()), b"\xff" * 64, b"{}"])
@pytest.mark.parametrize(
    "name",
    [
        "quantizers.safetensors",
        "network.safetensors",
        "example.safetensors",
        "layers.json",
        "policy.json",
        "config.json",
    ],
)
@pytest.mark.usefixtures("folder")
def test_damaged_file_is_one_line(name: str, content: bytes) -> None:
    Path("finetuned", name).write_bytes(content)
    if (name, content) == ("config.json", b"{}"):
        return  # no settings at all are those of a search
    with pytest.raises(UserError) as caught:
        _ = haq.load("finetuned").trace
    message = str(caught.value)
    assert name in message
    assert "\n" not in message
    assert not Path("unpickled").exists()


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.usefixtures("folder")
def test_quantizers_of_another_network_are_one_line(run: str) -> None:
    path = Path(run, "quantizers.safetensors")
    tensors = load(path.read_bytes())
    path.write_bytes(save({name: tensor for name, tensor in tensors.items() if not name.startswith("3.")}))
    with pytest.raises(UserError, match="not fit"):
        _ = haq.load(run).model


@pytest.mark.parametrize(
    ("name", "tensor", "says"),
    [
        ("3.input.scale", torch.ones(2), "3.input.scale is float32 of shape [2], not one float"),
        ("3.input.zero_point", torch.tensor(0.5), "3.input.zero_point is float32 of shape [], not one integer"),
        ("3.input.range", torch.tensor(3), "3.input.range is int64 of shape [], not two integers"),
        ("3.weight.range", torch.zeros(1, dtype=torch.int32), "3.weight.range is int32 of shape [1], not two integers"),
    ],
)
@pytest.mark.parametrize("run", ["search", "finetuned"])
@pytest.mark.usefixtures("folder")
def test_quantizer_of_another_shape_is_named(run: str, name: str, tensor: Tensor, says: str) -> None:
    path = Path(run, "quantizers.safetensors")
    path.write_bytes(save({**load(path.read_bytes()), name: tensor}))
    with pytest.raises(UserError) as caught:
        _ = haq.load(run).model
    assert says in str(caught.value)
    assert "Error" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "tensor", "says"),
    [
        ("1.running_mean:1.mean", torch.zeros(2), "the statistics of 1.running_mean:1 have the shape (2,)"),
        ("1.running_mean:1.variance", torch.tensor(1.0), "the statistics of 1.running_mean:1 have the shape ()"),
        ("1.running_mean:1.variance", -torch.ones(4), "1.running_mean:1.variance has values that it cannot have"),
        ("none:1.mean", torch.zeros(4), "none:1 is no batch norm of the network"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_statistics_that_no_batch_norm_has_are_named(name: str, tensor: Tensor, says: str) -> None:
    path = Path("search", "quantizers.safetensors")
    others = {"none:1.variance": torch.ones(4)} if name.startswith("none") else {}
    path.write_bytes(save({**load(path.read_bytes()), **others, name: tensor}))
    with pytest.raises(UserError) as caught:
        _ = haq.load("search").model
    assert says in str(caught.value)


@pytest.mark.usefixtures("folder")
def test_damaged_summary_is_one_line() -> None:
    Path("search/summary.json").write_text("[]")
    artifact = haq.load("search")
    assert haq.evaluate(artifact)["images"]  # does not need the summary
    with pytest.raises(UserError, match=r"summary\.json is damaged"):
        _ = artifact.summary


@pytest.mark.usefixtures("folder")
def test_reconstruction_without_its_quantizers_is_refused() -> None:
    Path("reconstructed/quantizers.safetensors").unlink()
    with pytest.raises(UserError, match=r"quantizers\.safetensors is missing"):
        haq.load("reconstructed")


def test_objects_take_the_place_of_names(tiny_net: nn.Module, tiny_task: ClassificationTask, tmp_path: Path) -> None:
    tiny_net.train()
    settings: dict[str, Any] = {"budget": 0.8, "episodes": 2, "agent": "uniform", "engine": "torch"}
    kept = haq.search(tiny_net, tiny_task, out=tmp_path / "run", **settings)
    discarded = haq.search(tiny_net, tiny_task, **settings)
    inputs = next(tiny_task.batches("report", batch_size=40))[0]
    loaded = haq.load(tmp_path / "run", model=tiny_net, task=tiny_task)
    outputs = []
    for artifact in (loaded, kept.artifact, discarded.artifact):
        assert isinstance(artifact, Artifact)
        assert haq.evaluate(artifact)["accuracy"] == kept.summary.accuracy
        with torch.no_grad():
            outputs.append(artifact.model(inputs))
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])
    assert all(module.training for module in tiny_net.modules())
    assert isinstance(discarded.artifact, Artifact)
    assert discarded.artifact.path is None
    assert discarded.artifact.priced.baseline == loaded.priced.baseline
    for without in (haq.load(tmp_path / "run"), haq.load(tmp_path / "run", task=tiny_task)):
        with pytest.raises(UserError, match=r"was made with an object as model \(TinyNet\): give it again as model="):
            _ = without.model
    (tmp_path / "run" / "layers.json").unlink()
    traced_again = haq.load(tmp_path / "run", model=tiny_net, task=tiny_task)
    assert traced_again.priced.layers == loaded.priced.layers
    assert haq.evaluate(kept.policy, model=tiny_net, task=tiny_task)["accuracy"] == kept.summary.accuracy
    with pytest.raises(UserError, match=r"give them to haq\.load"):
        haq.evaluate(loaded, engine="torch")


def test_other_weights_are_a_warning(tiny_net: nn.Module, tiny_task: ClassificationTask, tmp_path: Path) -> None:
    haq.search(tiny_net, tiny_task, out=tmp_path / "run", budget=0.8, episodes=2, agent="uniform", engine="torch")
    with torch.no_grad():
        next(tiny_net.parameters()).add_(1e-3)
    with pytest.warns(HaqWarning, match="are not those that the policy was made for"):
        haq.evaluate(tmp_path / "run", model=tiny_net, task=tiny_task)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("**/quantizers.safetensors")), ids=lambda path: path.parent.name)
def test_folders_of_all_versions_load(path: Path) -> None:
    artifact = haq.load(path.parent)
    assert artifact.quantizers
    assert artifact.summary is not None
    assert (artifact.trace is None) == (artifact.policy.version == 1)
    summary = json.loads((path.parent / "summary.json").read_text())
    assert artifact.summary["accuracy"] == summary["accuracy"]

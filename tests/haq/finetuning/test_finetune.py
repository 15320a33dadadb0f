"""Fine-tuning as a whole: it helps, it is the same every time, it goes on after a kill, and its files give it back."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import haq
from haq.__main__ import main
from haq.errors import HaqWarning, UserError
from haq.execution.progress import Silent
from haq.experiment.artifact import load_artifact
from haq.network.layers import Trace
from haq.quantization.training.config import FinetuneConfig
from haq.quantization.training.initialization import Initializer
from haq.quantization.training.learner import Learner
from haq.quantization.training.network import start_network
from haq.quantization.training.recipe import resolve_rates
from haq.quantization.training.trainer import network_score
from haq.runs.run_folder import RunFolder
from haq.tasks.classification import ClassificationTask

QUICK = {"epochs": 2, "batch_size": 32, "norm_images": 64, "calibration_images": 48}
FILES = {
    "config.json", "environment.json", "epochs.jsonl", "checkpoint.pt", "policy.json", "network.safetensors",
    "quantizers.safetensors", "summary.json", "learning_curve.png", "layers.json", "example.safetensors",
}  # fmt: skip


class Killer(Silent):
    """Ends a run after its first epoch and a step of the next."""

    def __init__(self) -> None:
        self.epochs = 0

    def step(self, *_: Any) -> None:
        if self.epochs == 1:
            raise KeyboardInterrupt

    def line(self, text: str) -> None:
        self.epochs += text.startswith("epoch ")


def without_seconds(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (path / "epochs.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.endswith("seconds")} for line in lines]


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits network at W2A2 for a few epochs."""
    path = tmp_path_factory.mktemp("digits") / "run"
    haq.finetune(policy=(2, 2), epochs=4, batch_size=64, out=path, report_images=300)
    return path


def test_training_raises_accuracy_and_lowers_loss_at_two_bits(digits_run: Path) -> None:
    summary = json.loads((digits_run / "summary.json").read_text())
    lines = without_seconds(digits_run)
    assert {path.name for path in digits_run.iterdir()} == FILES
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1]["loss"] < 0.7 * lines[0]["loss"]
    assert summary["search_accuracy"] > summary["search_accuracy_start"] + 0.02
    assert summary["search_accuracy"] == lines[-1]["search_accuracy"]
    policy = haq.load_policy(digits_run / "policy.json")
    assert policy.accuracy["report"] == summary["accuracy"]
    assert (policy.w_bits[0], policy.w_bits[1], policy.w_bits[-1]) == (8, 2, 8)


def test_evaluate_uses_the_fine_tuned_network(
    digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = json.loads((digits_run / "summary.json").read_text())
    assert main(["evaluate", str(digits_run / "policy.json"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["accuracy"], document["accuracy_fp32"]) == (summary["accuracy"], summary["accuracy_fp32"])
    unfinished = tmp_path / "unfinished"
    shutil.copytree(digits_run, unfinished)
    (unfinished / "network.safetensors").unlink()
    assert main(["evaluate", str(unfinished / "policy.json")]) == 2
    assert "network.safetensors is missing or damaged" in capsys.readouterr().err


def test_resume_of_finished_run_returns_its_summary(digits_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in digits_run.iterdir()}
    arguments = ["--w-bits", "2", "--a-bits", "2", "--epochs", "4", "--batch-size", "64", "--report-images", "300"]
    command = ["finetune", *arguments, "--out", str(digits_run), "--json"]
    assert main([*command, "--resume"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((digits_run / "summary.json").read_text())
    assert {path.name: path.stat().st_mtime_ns for path in digits_run.iterdir()} == before
    assert main([*command, "--resume", "--lr", "0.5"]) == 2
    assert "other settings: finetune" in capsys.readouterr().err
    assert main(command) == 2
    assert "is not empty" in capsys.readouterr().err


OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"optimizer": "adamw", "ema": 0.9, "oscillation": "freeze", "max_gradient_norm": 1.0},
    {"oscillation": "dampen", "shift": "float", "teacher": False, "precision": "bfloat16"},
)


@pytest.mark.parametrize("options", OPTIONS)
def test_resume_gives_identical_files(
    options: dict[str, Any], small_net: nn.Module, quarters: ClassificationTask, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"policy": (3, 3), **QUICK, **options}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    result = haq.finetune(small_net, quarters, out=whole, **settings)
    with pytest.raises(KeyboardInterrupt):
        haq.finetune(small_net, quarters, out=killed, watcher=Killer(), **settings)
    torch.rand(5)  # random numbers of the caller's make no difference
    again = haq.finetune(small_net, quarters, out=killed, resume=True, **settings)
    for name in ("network.safetensors", "quantizers.safetensors", "policy.json", "config.json"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes()
    assert without_seconds(whole) == without_seconds(killed)
    assert again.summary.accuracy == result.summary.accuracy


def test_reloaded_network_equals_the_result(small_net: nn.Module, quarters: ClassificationTask, tmp_path: Path) -> None:
    result = haq.finetune(small_net, quarters, policy=(2, 3), out=tmp_path / "run", **QUICK)
    again = haq.finetune(small_net, quarters, policy=(2, 3), out=tmp_path / "run", resume=True, **QUICK)
    inputs = next(quarters.batches("report", batch_size=48))[0]
    with torch.no_grad():
        assert torch.equal(result.network(inputs), again.network(inputs))
    assert network_score(again.network, quarters, "report", batch_size=256) == result.summary.accuracy


def test_float_control_trains_without_quantizers(small_net: nn.Module, quarters: ClassificationTask) -> None:
    result = haq.finetune(small_net, quarters, policy=(None, None), **QUICK)
    assert set(result.policy.w_bits) == {None}
    assert result.policy.hardware is None
    assert result.summary.mean_weight_bits == 8
    assert result.summary.search_accuracy_start is not None
    assert result.path is None


def test_dropout_is_that_of_the_network_or_of_the_settings(small_net: nn.Module, quarters: ClassificationTask) -> None:
    """Without dropout a network with such a layer learns what the same network without the layer learns."""
    with_layer = nn.Sequential(small_net, nn.Dropout(0.5))
    plain = haq.finetune(small_net, quarters, policy=(4, 4), **QUICK)
    own, none = (haq.finetune(with_layer, quarters, policy=(4, 4), dropout=p, **QUICK) for p in (None, 0.0))
    inputs = next(quarters.batches("report", batch_size=48))[0]
    with torch.no_grad():
        assert torch.equal(none.network(inputs), plain.network(inputs))
        assert not torch.equal(own.network(inputs), plain.network(inputs))
    assert with_layer[1].p == 0.5


def test_mode_of_the_given_network_is_kept(small_net: nn.Module, quarters: ClassificationTask) -> None:
    small_net.train()
    haq.finetune(small_net, quarters, policy=(4, 4), **QUICK)
    assert all(module.training for module in small_net.modules())


def test_learning_only_quantizers_of_a_float_network_is_refused(
    small_net: nn.Module, quarters: ClassificationTask
) -> None:
    with pytest.raises(UserError, match="no layer is quantized, so nothing would learn; use --learn all"):
        haq.finetune(small_net, quarters, policy=(None, None), learn="quantizers", **QUICK)


def test_data_without_train_split_are_refused(tiny_net: nn.Module, tiny_task: ClassificationTask) -> None:
    with pytest.raises(UserError, match="fine-tuning needs a train split, which blobs does not have"):
        haq.finetune(tiny_net, tiny_task)


def test_infinite_loss_is_reported(small_net: nn.Module, small_trace: Trace) -> None:
    inputs = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    initializer = Initializer(small_net, small_trace, lambda: [inputs], shift="learned")
    network = start_network(small_net, initializer, ((4,) * 5, (4,) * 5))
    config = FinetuneConfig(teacher=False)
    rates = resolve_rates(config, 4.0)
    criterion = SimpleNamespace(loss=lambda outputs, _: outputs.sum() * torch.inf)
    learner = Learner(network, criterion, config=config, rates=rates, total_steps=1)
    with pytest.raises(UserError, match=r"the loss became -?(nan|inf) in step 1; lower --lr"):
        learner.step(inputs, torch.zeros(4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "--epochs 0: input should be greater than or equal to 1"),
        ({"shift": "some"}, "--shift 'some': input should be 'learned', 'fixed', 'none' or 'float'"),
        ({"lr": -1.0}, "--lr -1.0: input should be greater than 0"),
        ({"ema": 1.0}, "--ema 1.0: input should be less than 1"),
        ({"policy": (9, 4)}, r"bits \(9, 4\): give two widths from 1 to 8"),
        ({"policy": "missing.json"}, "cannot read policy missing.json"),
        ({"epoch": 3}, "unknown setting 'epoch'"),
    ],
)
def test_invalid_settings_are_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        haq.finetune(**settings)


def test_command_trains_and_prints_the_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = ["--search-images", "50", "--report-images", "50", "--calibration-images", "64", "--norm-images", "0"]
    command = ["finetune", "--float", "--epochs", "1", *images, "--out", str(tmp_path / "run")]
    assert main(command) == 0
    captured = capsys.readouterr()
    assert "epoch 1/1  loss" in captured.err
    assert "fine-tuned" in captured.out
    assert f"files in {tmp_path / 'run'}" in captured.out
    assert main(["evaluate", str(tmp_path / "run" / "policy.json"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["cost"]["latency_s"] is None  # bismo-edge has no float
    assert document["accuracy"] == haq.load_policy(tmp_path / "run" / "policy.json").accuracy["report"]


def test_policy_with_bits_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["finetune", "some.json", "--w-bits", "4"]) == 2
    assert "a policy file and --w-bits, --a-bits contradict each other" in capsys.readouterr().err


def test_zero_bits_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["finetune", "--w-bits", "0"]) == 2
    assert "bits (0, 4): give two widths from 1 to 8" in capsys.readouterr().err


def test_a_networks_answer_in_training_has_to_be_a_tensor(quarters: ClassificationTask) -> None:
    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(36, 4)

        def forward(self, x: torch.Tensor) -> Any:
            scores = self.layer(x.flatten(1))
            return (scores, scores) if self.training else scores

    with pytest.raises(UserError, match="the network answers with a tuple while it trains"):
        haq.finetune(TwoHeads().eval(), quarters, **QUICK)


@pytest.fixture
def killed(small_net: nn.Module, quarters: ClassificationTask, tmp_path: Path) -> Path:
    """A run that was killed in its second epoch."""
    with pytest.raises(KeyboardInterrupt):
        haq.finetune(small_net, quarters, policy=(3, 3), out=tmp_path / "run", watcher=Killer(), **QUICK)
    return tmp_path / "run"


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state.pop("trainer"),
        lambda state: state.pop("seconds"),
        lambda state: state["trainer"].update(epoch="1"),
        lambda state: state["trainer"].pop("learner"),
        lambda state: state["trainer"].update(learner={}),
    ],
)
def test_damaged_checkpoint_is_one_line_and_files_are_kept(
    damage: Callable[[Any], object], killed: Path, small_net: nn.Module, quarters: ClassificationTask
) -> None:
    state = torch.load(killed / "checkpoint.pt", weights_only=True)
    damage(state)
    RunFolder(killed).save_checkpoint(state)
    before = {path.name: path.read_bytes() for path in killed.iterdir()}
    with pytest.raises(UserError, match=r"checkpoint\.pt is damaged; delete it to start this run again from its first"):
        haq.finetune(small_net, quarters, policy=(3, 3), out=killed, resume=True, **QUICK)
    assert {path.name: path.read_bytes() for path in killed.iterdir()} == before


@pytest.mark.parametrize("line", [b"\xff\xfe", b"5", b'{"epoch": 1}', b"[" * 100_000, b'{"epoch": 1, "loss": 1e999}'])
def test_damaged_journal_is_refused_and_kept(
    line: bytes, killed: Path, small_net: nn.Module, quarters: ClassificationTask
) -> None:
    (killed / "epochs.jsonl").write_bytes(line + b"\n")
    before = {path.name: path.read_bytes() for path in killed.iterdir()}
    with pytest.raises(UserError, match=r"epochs\.jsonl is damaged \(line 1: .*\); delete this line and all after it"):
        haq.finetune(small_net, quarters, policy=(3, 3), out=killed, resume=True, **QUICK)
    assert {path.name: path.read_bytes() for path in killed.iterdir()} == before


def test_torn_last_line_of_the_journal_is_trained_again(
    killed: Path, small_net: nn.Module, quarters: ClassificationTask
) -> None:
    before = without_seconds(killed)
    content = (killed / "epochs.jsonl").read_bytes()
    (killed / "epochs.jsonl").write_bytes(content[:-20])
    haq.finetune(small_net, quarters, policy=(3, 3), out=killed, resume=True, **QUICK)
    assert without_seconds(killed)[:1] == before
    assert len(without_seconds(killed)) == 2


@pytest.mark.parametrize("damage", [{"warnings": 5}, {"accuracy": "good"}, {"steps": None}])
def test_damaged_summary_is_one_line(damage: dict[str, Any], digits_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(digits_run, tmp_path / "run"))
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | damage))
    with pytest.raises(UserError, match=r"holds no finished run: summary\.json is missing or damaged"):
        haq.finetune(policy=(2, 2), epochs=4, batch_size=64, out=run, report_images=300, resume=True)


def test_finished_run_without_its_network_cannot_be_resumed(digits_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(digits_run, tmp_path / "run"))
    (run / "network.safetensors").unlink()
    with pytest.raises(UserError, match=r"network\.safetensors is missing or .*; make the run again in another --out$"):
        haq.finetune(policy=(2, 2), epochs=4, batch_size=64, out=run, report_images=300, resume=True)
    (run / "summary.json").unlink()
    with pytest.raises(UserError, match=r"go on with haq finetune --resume$"):
        load_artifact(run)


class OftenOnBatches(nn.Module):
    """Applies its middle layer once to the example input and twice to other inputs."""

    def __init__(self, example: torch.Tensor) -> None:
        super().__init__()
        self.example = example
        self.first, self.step, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, times = self.first(x).relu(), 1 if torch.equal(x, self.example) else 2
        for _ in range(times):
            x = self.step(x).relu()
        return self.last(x)  # type: ignore[no-any-return]


def test_untraced_calls_are_a_warning() -> None:
    torch.manual_seed(0)
    items = [(torch.randn(4), index % 2) for index in range(12)]
    sets = dict.fromkeys(("calibration", "search", "report", "train"), items)
    network = OftenOnBatches(items[0][0][None])
    with pytest.warns(HaqWarning, match=r"step \(1 of 2 calls\)"):
        haq.finetune(network, sets, policy=(4, 4), epochs=1, batch_size=4)

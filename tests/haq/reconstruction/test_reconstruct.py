"""Reconstruction as a whole: its folder gives the same accuracy again, and bad input is one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from haq.__main__ import main
from haq.api import reconstruct
from haq.errors import UserError
from haq.execution.progress import Silent
from haq.policy import load_policy
from haq.reconstruction import checkpoint
from haq.runs.run_folder import RunFolder
from haq.tasks.classification import ClassificationTask

SMALL = ("--search-images", "100", "--report-images", "200", "--calibration-images", "64", "--steps", "80")
W2A4 = ("--w-bits", "2", "--a-bits", "4")


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits network at W2A4."""
    path = tmp_path_factory.mktemp("reconstructed") / "run"
    assert main(["reconstruct", *SMALL, *W2A4, "--rounding", "nearest", "--out", str(path), "--quiet"]) == 0
    return path


def test_reconstruction_improves_on_nearest_rounding(digits_run: Path) -> None:
    summary = json.loads((digits_run / "summary.json").read_text())
    assert summary["search_divergence"] < 0.85 * summary["search_divergence_start"]
    assert summary["search_accuracy"] >= summary["search_accuracy_start"]


def test_reconstruction_improves_on_gptq(tmp_path: Path) -> None:
    flags = ("--rounding", "gptq", "--out", str(tmp_path / "run"), "--quiet")
    assert main(["reconstruct", *SMALL, *W2A4, *flags]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["search_divergence"] < 0.97 * summary["search_divergence_start"]


def test_folder_holds_policy_and_quantizers(digits_run: Path) -> None:
    summary = json.loads((digits_run / "summary.json").read_text())
    policy = load_policy(digits_run / "policy.json")
    assert policy.accuracy["report"] == summary["accuracy"]
    assert policy.w_bits[:2] == (8, 2)
    files = {"config.json", "environment.json", "policy.json", "quantizers.safetensors", "summary.json"}
    assert {path.name for path in digits_run.iterdir()} == files | {"layers.json", "example.safetensors"}


@pytest.mark.parametrize("engine", ["auto", "torch"])
def test_evaluate_gives_the_accuracy_of_the_summary(
    engine: str, digits_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = json.loads((digits_run / "summary.json").read_text())
    assert main(["evaluate", str(digits_run / "policy.json"), "--engine", engine, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["accuracy_fp32"] == summary["accuracy_fp32"]
    if engine == "auto":
        assert document["accuracy"] == summary["accuracy"]
    else:
        assert abs(document["accuracy"] - summary["accuracy"]) <= 0.02


def test_given_network_is_not_changed(tiny_net: torch.nn.Module, tiny_task: ClassificationTask) -> None:
    tiny_net.train()
    result = reconstruct(tiny_net, tiny_task, policy=(2, 8), steps=5, rounding="gptq")
    assert tiny_net.training
    assert result.path is None
    assert result.summary.calibration_images == 40


class Interruption(Silent):
    """A watcher that remembers steps and ends a run after one."""

    def __init__(self, after: int) -> None:
        self.after, self.steps = after, list[int]()

    def step(self, done: int, status: str = "") -> None:  # noqa: ARG002
        self.steps.append(done)
        if done == self.after:
            raise KeyboardInterrupt


QUICK: dict[str, Any] = {"policy": (2, 4), "steps": 12, "batch_size": 16, "rounding": "nearest", "engine": "torch"}


@pytest.fixture
def interrupted(
    tiny_net: torch.nn.Module, tiny_task: ClassificationTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A run that was interrupted after its seventh step, with the checkpoint of the sixth."""
    monkeypatch.setattr(checkpoint, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        reconstruct(tiny_net, tiny_task, out=tmp_path / "run", watcher=Interruption(7), **QUICK)
    assert RunFolder(tmp_path / "run").load_checkpoint()["learning"]["steps"] == 6  # type: ignore[index]
    return tmp_path / "run"


def test_resume_gives_identical_result(
    interrupted: Path, tiny_net: torch.nn.Module, tiny_task: ClassificationTask, tmp_path: Path
) -> None:
    torch.rand(5)  # random numbers of the caller's make no difference
    watcher = Interruption(0)
    result = reconstruct(tiny_net, tiny_task, out=interrupted, resume=True, watcher=watcher, **QUICK)
    whole = reconstruct(tiny_net, tiny_task, out=tmp_path / "whole", **QUICK)
    assert watcher.steps == list(range(7, 13))
    assert {path.name for path in interrupted.iterdir()} == {path.name for path in (tmp_path / "whole").iterdir()}
    for name in ("quantizers.safetensors", "policy.json", "config.json", "layers.json"):
        assert (interrupted / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    without_seconds = {"seconds": 0.0}
    assert result.summary.model_copy(update=without_seconds) == whole.summary.model_copy(update=without_seconds)
    assert result.summary.seconds > 0


def test_resume_of_finished_run_returns_its_summary(
    tiny_net: torch.nn.Module, tiny_task: ClassificationTask, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    result = reconstruct(tiny_net, tiny_task, out=out, resume=True, **QUICK)  # a missing folder starts a run
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    again = reconstruct(tiny_net, tiny_task, out=out, resume=True, **QUICK)
    assert again.summary == result.summary
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
    with pytest.raises(UserError, match=r"other settings: reconstruct\.steps 12 there, 13 now"):
        reconstruct(tiny_net, tiny_task, out=out, resume=True, **(QUICK | {"steps": 13}))
    with pytest.raises(UserError, match="is not empty; add --resume"):
        reconstruct(tiny_net, tiny_task, out=out, **QUICK)


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state.pop("learning"),
        lambda state: state["learning"].pop("steps"),
        lambda state: state["learning"].update(parameters={}),
        lambda state: state["learning"].update(compared=[99]),
        lambda state: state["learning"].update(optimizer={"state": {}}),
    ],
)
def test_damaged_checkpoint_is_one_line_and_files_are_kept(
    damage: Callable[[Any], object], interrupted: Path, tiny_net: torch.nn.Module, tiny_task: ClassificationTask
) -> None:
    state = torch.load(interrupted / "checkpoint.pt", weights_only=True)
    damage(state)
    RunFolder(interrupted).save_checkpoint(state)
    before = {path.name: path.read_bytes() for path in interrupted.iterdir()}
    with pytest.raises(UserError, match=r"checkpoint\.pt is damaged; delete it to start this reconstruction again"):
        reconstruct(tiny_net, tiny_task, out=interrupted, resume=True, **QUICK)
    assert {path.name: path.read_bytes() for path in interrupted.iterdir()} == before


def test_equal_runs_give_equal_quantizers(digits_run: Path, tmp_path: Path) -> None:
    flags = ("--rounding", "nearest", "--out", str(tmp_path / "again"), "--quiet")
    assert main(["reconstruct", *SMALL, *flags, str(digits_run / "policy.json")]) == 0
    name = "quantizers.safetensors"
    assert (tmp_path / "again" / name).read_bytes() == (digits_run / name).read_bytes()


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--steps", "0"), "--steps 0: input should be greater than or equal to 1"),
        (("--w-bits", "9"), "bits (9, 8): give two widths from 1 to 8"),
        (("nowhere.json",), "cannot read policy nowhere.json"),
        (("nowhere.json", "--w-bits", "3"), "a policy file and --w-bits, --a-bits contradict each other"),
        (("--data", "imagefolder:nowhere"), "nowhere does not exist; give a folder"),
    ],
)
def test_invalid_input_is_one_line(
    flags: tuple[str, ...], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reconstruct", *flags, "--out", str(tmp_path / "run")]) != 0
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert complaint in lines[0]
    assert not (tmp_path / "run").exists()


def test_nonempty_folder_is_refused_before_learning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    assert main(["reconstruct", "--out", str(tmp_path)]) != 0
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_evaluate_with_other_quantizer_settings_is_refused(
    digits_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(digits_run / "policy.json"), "--calibration", "max"]) == 2
    assert "learned with other settings; leave out --calibration" in capsys.readouterr().err


def test_bits_beside_a_policy_are_refused(digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = str(digits_run / "policy.json")
    for command in ("reconstruct", "finetune"):
        assert main([command, policy, "--first-last-bits", "4", "--out", str(tmp_path / "run")]) == 2
        assert "the policy says all bits already; leave out --first-last-bits" in capsys.readouterr().err
        assert not (tmp_path / "run").exists()


def test_search_reconstructs_its_policy_as_the_command_does(
    small_flags: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, learned, again = (tmp_path / name for name in ("run", "run-reconstructed", "again"))
    flags = ("search", *small_flags, "--episodes", "1", "--out", str(run), "--reconstruct", "--quiet")
    assert main([*flags, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document.pop("reconstructed") == json.loads((learned / "summary.json").read_text())
    assert document == json.loads((run / "summary.json").read_text())
    assert main(["reconstruct", str(run), "--out", str(again), "--quiet"]) == 0
    capsys.readouterr()
    for name in ("policy.json", "quantizers.safetensors"):
        assert (learned / name).read_bytes() == (again / name).read_bytes()
    assert main([*flags, "--resume"]) == 0
    printed = capsys.readouterr().out
    assert f"files in {run}\n" in printed
    assert f"files in {learned}\n" in printed


@pytest.mark.parametrize(
    ("flags", "fragment"),
    [
        (("--quantizer", "kmeans"), "kmeans codebooks have no rounding to learn"),
        ((), "run-reconstructed is not empty; add --resume"),
    ],
)
def test_search_that_cannot_reconstruct_is_refused_before_it_begins(
    flags: tuple[str, ...], fragment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run-reconstructed").mkdir()
    (tmp_path / "run-reconstructed" / "notes.txt").write_text("mine")
    assert main(["search", *flags, "--reconstruct", "--out", str(tmp_path / "run")]) == 2
    assert fragment in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_search_ended_by_its_time_limit_is_not_reconstructed(
    small_flags: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = (*small_flags, "--episodes", "9", "--time", "0.001s", "--reconstruct", "--quiet")
    assert main(["search", *flags, "--out", str(tmp_path / "run")]) == 0
    assert "ended by --time" in capsys.readouterr().out
    assert not (tmp_path / "run-reconstructed").exists()

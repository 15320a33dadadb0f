"""Runs of earlier versions are read, those of later ones refused in one line."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import haq
from haq.__main__ import main
from haq.errors import UserError
from haq.execution.networks import run_network
from haq.policy import load_policy
from haq.runs.run_folder import RunFolder
from haq.runs.version import VERSION
from haq.tasks import load_task
from haq.tasks.predictions import score

VERSION_1 = Path(__file__).with_name("version-1")
"""A search of three episodes by haq before configurations had a version, without checkpoint and figures."""
SEARCH = ("--episodes", "3", "--agent", "random", "--rounding", "nearest", "--engine", "torch")
Output = pytest.CaptureFixture[str]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy of the run of version 1."""
    return Path(shutil.copytree(VERSION_1, tmp_path / "run"))


def change(run: Path, version: Any) -> Path:
    path = run / "config.json"
    path.write_text(json.dumps({"version": version, **json.loads(path.read_text())}))
    return run


def test_new_runs_state_their_version(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", {"seed": 0}, {})
    assert json.loads((run.path / "config.json").read_text()) == {"version": VERSION, "seed": 0}
    assert RunFolder.reopen(run.path, {"seed": 0}) == run
    with pytest.raises(UserError, match="seed 0 there, 1 now"):
        RunFolder.reopen(run.path, {"seed": 1})


def test_run_of_version_1_is_loaded_simulated_and_evaluated(run: Path, capsys: Output) -> None:
    assert "version" not in json.loads((run / "config.json").read_text())
    artifact = haq.load(run)
    assert artifact.summary is not None
    assert artifact.trace is not None
    assert artifact.quantizers
    assert artifact.policy == load_policy(run / "policy.json")
    assert main(["simulate", str(run), "--json"]) == 0
    latency_s = json.loads(capsys.readouterr().out)["totals"]["latency_s"]
    assert latency_s == pytest.approx(artifact.summary["cost"]["latency_s"])
    assert main(["evaluate", str(run), "--json"]) == 0
    accuracy = json.loads(capsys.readouterr().out)["accuracy"]
    # Not that of the summary: the float network is trained on this machine, to other weights on another processor.
    found = score(partial(run_network, artifact.model), load_task("digits"), "report", batch_size=256)
    assert accuracy == pytest.approx(found, abs=0.01)


def test_finished_run_of_version_1_is_resumed_without_a_change(run: Path, capsys: Output) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert main(["search", *SEARCH, "--out", str(run), "--resume", "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 3
    assert {name: (run / name).read_bytes() for name in before} == before


def test_run_of_a_later_version_is_refused_in_one_line(run: Path, capsys: Output) -> None:
    change(run, VERSION + 1)
    for words in (
        ["evaluate", str(run)],
        ["simulate", str(run)],
        ["explain", str(run)],
        ["plot", str(run)],
        ["finetune", str(run), "--out", str(run.parent / "tuned")],
        ["reconstruct", str(run), "--out", str(run.parent / "learned")],
        ["search", *SEARCH, "--out", str(run), "--resume"],
    ):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"haq: {run} was written by a newer haq: files of version {VERSION + 1}")
        assert error.count("\n") == 1
    assert [path.name for path in run.parent.iterdir()] == ["run"]


@pytest.mark.parametrize("version", [0, -1, "2", 1.5, True, None, 10**4000])
def test_damaged_version_is_one_line(version: Any, run: Path) -> None:
    path = run / "config.json"
    number = "1" + "0" * 4000 if version == 10**4000 else json.dumps(version)
    path.write_text('{"version": ' + number + path.read_text().replace("{", ",", 1))
    with pytest.raises(UserError) as caught:
        haq.load(run)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < len(str(run)) + 200

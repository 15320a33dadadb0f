"""Journals of interrupted searches: repeated episodes keep their lines, whatever interrupts them again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from haq.config import SearchConfig, search_config
from haq.evaluation import evaluator
from haq.execution.progress import Silent
from haq.experiment.inputs import Inputs
from haq.searching import session
from haq.searching.search import SearchResult, search_configured
from haq.tasks.classification import ClassificationTask

Search = Callable[..., SearchResult]


class Interruption(Silent):
    """A watcher that interrupts after so many episodes."""

    def __init__(self, after: int) -> None:
        self.after = after

    def step(self, done: int, status: str = "") -> None:  # noqa: ARG002
        if done == self.after:
            raise KeyboardInterrupt


@pytest.fixture
def inputs(tiny_net: nn.Module, held_out_task: ClassificationTask) -> Inputs:
    return Inputs(tiny_net, held_out_task)


def config_of(**settings: Any) -> SearchConfig:
    fixed: dict[str, Any] = {
        "first_last_bits": None,
        "model": "TinyNet",
        "data": "blobs",
        "engine": "torch",
        "rounding": "nearest",
        "corrections": "none",
    }
    return search_config(**{**fixed, "agent": "evolution", "episodes": 9, "prior": "none", **settings})


def lines(run: Path) -> list[dict[str, Any]]:
    found = map(json.loads, (run / "episodes.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key != "seconds"} for line in found]


def counts(run: Path) -> dict[str, Any]:
    summary = json.loads((run / "summary.json").read_text())
    return {name: summary[name] for name in ("evaluations", "forward_images", "winner", "finalists")}


@pytest.mark.parametrize("proposals", [1, 2])
@pytest.mark.parametrize("has_checkpoint", [True, False])
def test_a_second_interruption_keeps_every_line_of_a_journal_and_a_timed_search_its_episodes(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, proposals: int, has_checkpoint: bool
) -> None:
    config, run = config_of(proposals=proposals), tmp_path / "run"
    monkeypatch.setattr(session, "CHECKPOINT_SECONDS", 1e9)
    search_configured(config.model_copy(update={"episodes": 2}), run, inputs=inputs)
    with pytest.raises(KeyboardInterrupt):
        search_configured(config, run, inputs=inputs, resume=True, watcher=Interruption(7))
    if not has_checkpoint:
        (run / "checkpoint.pt").unlink()
    journal = (run / "episodes.jsonl").read_bytes()
    assert journal.count(b"\n") == 7
    for repeated in (3, 5):
        with pytest.raises(KeyboardInterrupt):
            search_configured(config, run, inputs=inputs, resume=True, watcher=Interruption(repeated))
        assert (run / "episodes.jsonl").read_bytes() == journal
    summary = search_configured(config, run, inputs=inputs, resume=True, time_limit_s=1e-9).summary
    assert (summary.ended_by, summary.episodes) == ("time", 7)
    assert (run / "episodes.jsonl").read_bytes() == journal


def test_a_journal_of_other_policies_is_replaced_from_the_first_of_them(inputs: Inputs, tmp_path: Path) -> None:
    for name, seed in (("whole", 0), ("other", 1)):
        search_configured(config_of(agent="random", seed=seed), tmp_path / name, inputs=inputs)
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        search_configured(config_of(agent="random"), run, inputs=inputs, watcher=Interruption(4))
    both = [(tmp_path / name / "episodes.jsonl").read_text().splitlines(keepends=True) for name in ("whole", "other")]
    (run / "episodes.jsonl").write_text("".join(both[0][:3] + both[1][3:]))
    search_configured(config_of(agent="random"), run, inputs=inputs, resume=True)
    assert lines(run) == lines(tmp_path / "whole")
    assert counts(run) == counts(tmp_path / "whole")


def test_a_search_that_has_forgotten_evaluations_resumes_with_the_same_counts(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(agent="random", episodes=30, min_bits=7, budget=("0.9",))
    search_configured(config, tmp_path / "all", inputs=inputs)
    monkeypatch.setattr(evaluator, "CAPACITY", 2)
    search_configured(config, tmp_path / "whole", inputs=inputs)
    monkeypatch.setattr(session, "CHECKPOINT_SECONDS", 0.0)
    for episode in (11, 12, 25):
        with pytest.raises(KeyboardInterrupt):
            search_configured(config, tmp_path / "run", inputs=inputs, resume=True, watcher=Interruption(episode))
    search_configured(config, tmp_path / "run", inputs=inputs, resume=True)
    assert lines(tmp_path / "run") == lines(tmp_path / "whole") == lines(tmp_path / "all")
    assert counts(tmp_path / "run") == counts(tmp_path / "whole")
    assert counts(tmp_path / "whole")["evaluations"] > counts(tmp_path / "all")["evaluations"]

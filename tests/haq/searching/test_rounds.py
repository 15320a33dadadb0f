"""Rounds of proposals: order of the journal, interruptions within a round, and more episodes later."""

import json
from math import inf
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from haq.config import SearchConfig, search_config
from haq.experiment.inputs import Inputs
from haq.searching import session
from haq.searching.search import search_configured
from haq.searching.session import Session
from haq.tasks.classification import ClassificationTask

CASES: dict[str, dict[str, Any]] = {
    "proposer": {"agent": "ddpg"},
    "agent": {"agent": "ddpg-paper"},
    "least cost": {"agent": "evolution", "max_accuracy_drop": 10},
}


@pytest.fixture
def inputs(tiny_net: nn.Module, held_out_task: ClassificationTask) -> Inputs:
    return Inputs(tiny_net, held_out_task)


def config_of(case: str, *, episodes: int) -> SearchConfig:
    settings = {"first_last_bits": None, "model": "TinyNet", "data": "blobs", "engine": "torch", "proposals": 3}
    return search_config(**settings, **CASES[case], episodes=episodes)


def results(run: Path) -> list[dict[str, Any]]:
    """The journal without durations."""
    lines = map(json.loads, (run / "episodes.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.mark.parametrize("case", CASES)
def test_an_interruption_within_a_round_changes_nothing(
    case: str, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in the fourth round, with the checkpoint of the second."""
    config, run = config_of(case, episodes=14), tmp_path / "run"
    search_configured(config, tmp_path / "whole", inputs=inputs)
    complete = Session.run_episode

    def interrupted(each: Session) -> Any:
        if each.episode_count == 11:
            raise KeyboardInterrupt
        monkeypatch.setattr(session, "CHECKPOINT_SECONDS", 0.0 if each.episode_count < 6 else inf)
        return complete(each)

    monkeypatch.setattr(Session, "run_episode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search_configured(config, run, inputs=inputs)
    assert torch.load(run / "checkpoint.pt", weights_only=True)["episode"] == 6
    assert len(results(run)) == 11
    monkeypatch.setattr(Session, "run_episode", complete)
    search_configured(config, run, inputs=inputs, resume=True)
    assert results(run) == results(tmp_path / "whole")


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_ended_within_a_round_continues_as_one_with_more_episodes(
    case: str, inputs: Inputs, tmp_path: Path
) -> None:
    search_configured(config_of(case, episodes=11), tmp_path / "whole", inputs=inputs)
    for episodes in (4, 11):
        search_configured(config_of(case, episodes=episodes), tmp_path / "run", inputs=inputs, resume=True)
    assert results(tmp_path / "run") == results(tmp_path / "whole")
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("run", "whole")]
    assert summaries[0]["evaluations"] == summaries[1]["evaluations"]


def test_policies_of_a_round_do_not_depend_on_each_others_scores(inputs: Inputs, tmp_path: Path) -> None:
    """The first round differs from single proposals after its first policy, which is the same."""
    config = config_of("agent", episodes=12)
    search_configured(config, tmp_path / "rounds", inputs=inputs)
    search_configured(config.model_copy(update={"proposals": 12}), tmp_path / "one", inputs=inputs)
    rounds, one = results(tmp_path / "rounds"), results(tmp_path / "one")
    assert [line["w_bits"] for line in rounds[:3]] == [line["w_bits"] for line in one[:3]]

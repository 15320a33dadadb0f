"""Damaged and foreign files of a search: the journal ends where it is damaged, everything else is one line."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import haq
from envs.choices import Choices
from haq.errors import UserError
from haq.runs.run_folder import RunFolder
from haq.tasks.classification import ClassificationTask

Search = Callable[[Path], Any]
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def search(tiny_net: nn.Module, tiny_task: ClassificationTask, monkeypatch: pytest.MonkeyPatch) -> Search:
    """Starts a small search in a folder, or goes on with it."""
    monkeypatch.setattr("haq.reporting.plots.draw_missing", lambda _: None)
    settings = {"agent": "evolution", "budget": 0.7, "episodes": 6, "max_bits": 7, "first_last_bits": None}
    return lambda out: haq.search(tiny_net, tiny_task, out=out, resume=True, **settings)


@pytest.fixture
def run(search: Search, tmp_path: Path) -> Path:
    """A run that was killed before it could write its summary."""
    search(tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    return tmp_path / "run"


def lines_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()]


def timeless(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def a_number(key: str, text: str) -> Change:
    """Another number in its place, as it is written."""
    return lambda line: line.update({key: f"<{text}>"})


def bits_of(value: object) -> Change:
    return lambda line: line["w_bits"].__setitem__(1, value)


def more_bits_here_than_there(line: dict[str, Any]) -> None:
    line["w_bits"].append(line["a_bits"].pop())


DAMAGES: Mapping[str, Change] = {
    **{f"infinite {key}": a_number(key, "1e999") for key in ("accuracy", "cost", "reward", "score", "noise")},
    **{f"endless {key}": a_number(key, "9" * 400) for key in ("accuracy", "cost", "reward", "score", "divergence")},
    "accuracy 700 %": a_number("accuracy", "7"),
    "negative cost": a_number("cost", "-5"),
    "another cost": lambda line: line.update(cost=line["cost"] * 1.001),
    "a score that was not earned": a_number("score", "0.5"),
    "9 bits": bits_of(9),
    "0 bits": bits_of(0),
    "4.5 bits": bits_of(4.5),
    "true bits": bits_of(True),
    "more bits than may be chosen": bits_of(8),
    "16 and 14": more_bits_here_than_there,
    "a loss that is none": lambda line: line.update(actor_loss="low"),
    **{f"no {key}": lambda line, key=key: line.pop(key) for key in ("score", "noise", "divergence", "w_bits")},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_journal_that_is_damaged_in_the_middle_is_refused_with_its_line(
    damage: str, search: Search, run: Path
) -> None:
    whole = lines_of(run)
    damaged = json.loads(json.dumps(whole[2]))
    DAMAGES[damage](damaged)
    written = json.dumps(damaged).replace('"<', "").replace('>"', "")
    content = "".join(f"{each}\n" for each in (*map(json.dumps, whole[:2]), written, *map(json.dumps, whole[3:])))
    (run / "episodes.jsonl").write_text(content)
    with pytest.raises(UserError, match=r"episodes\.jsonl .*line 3"):
        search(run)
    assert (run / "episodes.jsonl").read_text() == content


def test_choices_allow_only_allowed_bits() -> None:
    allowed = np.zeros((2, 8, 8), dtype=np.bool_)
    allowed[0, 1:7, 1:7] = allowed[1, 7, 7] = True
    choice = Choices(("one", "two"), (0, 1), allowed, np.ones((1, 2, 8, 8)), np.ones(1), ("latency",))
    assert choice.allows(np.array([(7, 2), (8, 8)]))
    assert not choice.allows(np.array([(8, 2), (8, 8)]))
    assert not choice.allows(np.array([(7, 2), (7, 7)]))


def test_undamaged_journal_is_kept_byte_for_byte(search: Search, run: Path) -> None:
    before = (run / "episodes.jsonl").read_bytes()
    search(run)
    assert (run / "episodes.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state.pop("episode"),
        lambda state: state.update(episode="3"),
        lambda state: state.pop("agent"),
        lambda state: state.update(agent={}),
        lambda state: state.update(agent={"archive": 5}),
        lambda state: state.pop("evaluations"),
        lambda state: state.update(seconds=float("nan")),
    ],
)
def test_a_damaged_checkpoint_is_one_line_and_nothing_is_lost(damage: Change, search: Search, run: Path) -> None:
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    damage(state)
    RunFolder(run).save_checkpoint(state)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(
        UserError, match=r"checkpoint\.pt is damaged; delete it to start this run again from its first episode$"
    ):
        search(run)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


@pytest.mark.parametrize(
    "summary",
    ["{}", '{"warnings": 5}', lambda summary: summary.pop("objective"), lambda summary: summary.update(budget=[])],
)
def test_a_damaged_summary_is_one_line(summary: str | Change, search: Search, tmp_path: Path) -> None:
    path = tmp_path / "run" / "summary.json"
    search(path.parent)
    if not isinstance(summary, str):
        document = json.loads(path.read_text())
        summary(document)
        summary = json.dumps(document)
    path.write_text(summary)
    with pytest.raises(UserError, match=r"holds no finished run: summary\.json is missing or damaged$"):
        search(path.parent)

"""Storing, comparing and averaging results of other tools."""

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from torch import nn


@pytest.fixture
def bench(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("peers/compare")


@pytest.fixture
def table(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("peers/answers")


ABOUT = {
    "network": "net",
    "layers": ["a", "b"],
    "weights": 10,
    "images": {"calibration": 4, "search": 3, "selection": 2, "report": 1},
    "commands": ["python one", "python two"],
    "versions": {"torch": "2"},
    "processor": "some",
    "threads": 1,
}


def test_rows_survive_writing_and_reading(table: ModuleType, tmp_path: Path) -> None:
    rows = [
        table.Row(chosen_by="mct", variant="2 to 8", training="s0", budget=3.0, w_bits=(2, 4), accuracy={"mct": 0.5}),
        table.Row(chosen_by="uniform", variant="8", training="s0", w_bits=(8, 8), average_bits=8.0),
    ]
    assert table.read_rows(tmp_path / "net.json") == ([], [])
    table.write_rows(tmp_path / "net.json", ABOUT, rows)
    assert table.read_rows(tmp_path / "net.json") == (["python one", "python two"], rows)
    assert json.loads((tmp_path / "net.json").read_text())["about"] == ABOUT


@pytest.mark.parametrize("change", [{"budget": 2.5}, {"seed": 1}, {"training": "s1"}, {"evaluations": 20}])
def test_rows_of_different_questions_are_distinct(table: ModuleType, change: dict[str, object]) -> None:
    ask = {"chosen_by": "haq", "variant": "corrections", "training": "s0", "budget": 3.0, "seed": 0, "evaluations": 70}
    one = table.Row(**ask)
    assert table.same_answer(one, table.Row(**ask, w_bits=(2, 2), cpu_s=3.0))
    assert not table.same_answer(one, table.Row(**(ask | change)))


def test_table_averages_over_trainings_and_seeds(table: ModuleType, tmp_path: Path) -> None:
    def row(budget: float, training: str, accuracy: float) -> object:
        scores = {"haq": accuracy, "float": 1.0}
        return table.Row(
            chosen_by="mct", variant="2 to 8", training=training, budget=budget, average_bits=budget, accuracy=scores
        )

    rows = [row(2.5, "s0", 0.5), row(3.0, "s0", 0.9), row(3.0, "s1", 0.92)]
    lines = [table.table_line(group) for group in table.groups(rows)]
    assert lines == [
        "| 3 | mct | 2 to 8 | 3.00 | - | - | 91.00 ± 1.41 | - | - | - | 2 / 2 |",
        "| 2.5 | mct | 2 to 8 | 2.50 | - | - | 50.00 | - | - | - | 1 / 1 |",
    ]
    table.write_table(tmp_path / "net.md", ABOUT, rows)
    written = (tmp_path / "net.md").read_text()
    assert all(line in written for line in lines)
    assert "`python one` and `python two`" in written
    assert "in float 100.00 ± 0.00 (2 trainings)" in written


def test_questions_are_unique_and_run_without_corrections_for_one_seed(bench: ModuleType) -> None:
    options = Namespace(
        uniform=[8, 4, 3, 2],
        budgets=[3.0, 2.5],
        evaluations=[20, 70],
        seeds=2,
        searches=["corrections", "no corrections"],
        widths=["2 to 8"],
        peers=["mct", "modelopt"],
    )
    questions = list(bench.questions(options, "s0"))
    assert len({(row.chosen_by, row.variant, row.budget, row.seed) for row in questions}) == len(questions)
    assert sum(row.chosen_by == "uniform" for row in questions) == 4
    assert sum(row.chosen_by == "haq" and row.variant == "corrections" for row in questions) == 4
    assert [row.seed for row in questions if row.variant == "no corrections"] == [0, 0]
    assert sum(row.chosen_by in ("mct", "modelopt") for row in questions) == 4
    assert {row.evaluations for row in questions if row.chosen_by == "haq"} == {70}


def test_command_omits_absolute_folders(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["x", "net", "--weights", "/some/where/a.pth", "--data", "cifar10:/some/cifar10"])
    assert bench.command() == "python scripts/peers/compare.py net --weights a.pth --data cifar10:cifar10"


def test_followed_by_norm_finds_modules_before_batch_norms(load_script: Callable[[str], ModuleType]) -> None:
    block = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 2, 1))
    assert load_script("peers/tools").followed_by_norm(nn.Sequential(block, nn.Linear(2, 2))) == {"0.0"}


def test_digits_mobilenet_has_documented_layers_and_weights(load_script: Callable[[str], ModuleType]) -> None:
    network = load_script("experiments/digits_mobilenet").digits_mobilenet()
    owners = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert (len(owners), sum(module.weight.numel() for module in owners)) == (17, 27_280)

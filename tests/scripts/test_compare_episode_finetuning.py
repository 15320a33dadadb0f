"""Drawn policies, choices at equal time, and the written files."""

import csv
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from haq.cli.flags import DATA_FLAGS, MODEL_FLAGS
from haq.config import search_config
from haq.evaluation.evaluator import Evaluator
from haq.experiment.preparation import prepare

FEW = {"calibration_images": 64}


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("experiments/compare_episode_finetuning")


def test_drawn_policies_are_distinct_and_within_budget(script: ModuleType) -> None:
    problem = prepare(search_config(budget=("3bits",), **FEW))
    policies = script.draw_policies(problem, 12)
    costs = [problem.priced.table.policy_cost(*bits).latency_s for bits in policies]
    assert len(set(policies)) == 12
    assert max(costs) <= problem.limits[0].limit
    assert min(costs) > 0.9 * problem.limits[0].limit


def test_expensive_score_evaluates_fewer_policies_in_equal_time(script: ModuleType) -> None:
    truth, cheap = np.array([0.1, 0.2, 0.3, 0.4]), np.array([1.0, 2.0, 4.0, 3.0])
    chosen = [
        list(script.choices_in_time(script.Score("", truth, closeness, cpu_s), [0.5, 1.0, 9.0], truth))
        for closeness, cpu_s in ((cheap, 0.25), (truth, 0.5))
    ]
    assert [[count for count, _ in each] for each in chosen] == [[2, 4, 4], [1, 2, 4]]
    assert chosen[0][1][1] == pytest.approx(0.3)
    assert chosen[1][0][1] == pytest.approx(0.25)
    assert chosen[1][2][1] == pytest.approx(0.4)


def test_written_numbers_equal_evaluations(script: ModuleType, tmp_path: Path) -> None:
    flags = dict.fromkeys((*MODEL_FLAGS, *DATA_FLAGS)) | FEW
    folders = {"runs": tmp_path / "runs", "out": tmp_path / "found"}
    script.main(**flags, count=2, steps="1", epochs=1, seeds=2, **folders)
    rows = list(csv.DictReader((tmp_path / "found.csv").read_text().splitlines()))
    problem = prepare(search_config(budget=("3bits",), **FEW))
    evaluator = Evaluator(problem.network.engine, problem.task, "search")
    for row in rows:
        bits = [list(map(int, row[name].split())) for name in ("w_bits", "a_bits")]
        assert float(row["none: accuracy"]) == evaluator.evaluate(*bits).accuracy
    assert len({row["truth, seed 0: likelihood"] for row in rows}) == 2
    assert any(row["truth, seed 0: likelihood"] != row["truth, seed 1: likelihood"] for row in rows)
    assert "| 1 steps, all | closeness |" in (tmp_path / "found.md").read_text()
    assert (tmp_path / "found.png").stat().st_size > 0

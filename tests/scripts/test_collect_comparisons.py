"""Tables and data of the page of comparisons."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("experiments/collect_comparisons")


def test_optimism_rows_average_final_evaluations_of_each_method(script: ModuleType) -> None:
    columns = ["network", "agent", "evaluations", "search_accuracy", "accuracy", "noise", "report_noise"]
    records = [
        ("net", "ddpg", 100, 0.96, 0.90, 0.01, 0.03),
        ("net", "ddpg", 100, 0.94, 0.92, 0.03, 0.05),
        ("net", "ddpg", 50, 0.10, 0.10, 9.0, 9.0),
        ("net", "ilp", 100, 0.90, 0.91, 0.02, 0.02),
        ("other", "ddpg", 50, 1.0, 1.0, 0.0, 0.0),
    ]
    rows = list(script.optimism_rows(pd.DataFrame(records, columns=columns)))
    assert rows[2:] == [
        "| net | ddpg | 100 | 95.00 | 91.00 | +4.00 | 0.0200 | 0.0400 |",
        "| net | ilp | 100 | 90.00 | 91.00 | -1.00 | 0.0200 | 0.0200 |",
        "| other | ddpg | 50 | 100.00 | 100.00 | +0.00 | 0.0000 | 0.0000 |",
    ]


def test_write_evaluated_keeps_each_policy_once_per_split_seed(script: ModuleType, tmp_path: Path) -> None:
    measured = {"accuracy": 0.5, "divergence": 0.25, "noise": 0.125}
    first = {"w_bits": [8, 3], "a_bits": [8, 2], **measured}
    second = {"w_bits": [8, 2], "a_bits": [8, 5], **measured, "noise": 0.5}
    elsewhere = {**second, "noise": 0.75}
    for name, split_seed, lines in (("a", 0, [first, second]), ("b", 0, [second]), ("c", 4, [elsewhere])):
        run = tmp_path / "runs" / name
        run.mkdir(parents=True)
        (run / "config.json").write_text(json.dumps({"split_seed": split_seed}))
        (run / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    script.write_evaluated(tmp_path / "net.npz", [tmp_path])
    with np.load(tmp_path / "net.npz") as table:
        assert table["bits"].tolist() == [[[8, 8], [2, 5]], [[8, 8], [3, 2]], [[8, 8], [2, 5]]]
        assert table["noise"].tolist() == [0.5, 0.125, 0.75]
        assert table["split_seed"].tolist() == [0, 0, 4]

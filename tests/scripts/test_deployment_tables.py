"""Tables of exported files: the committed ones are those of the committed files, and cells say what a runtime found."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

RESULTS = Path(__file__).resolve().parents[2] / "results"


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("experiments/deployment_tables")


def document(policy: str, tflite: int | str, runtimes: list[dict[str, Any]]) -> dict[str, Any]:
    files = {"tflite": tflite, "packed": 5000}
    sizes = {"weights": 1000, "float_bytes": 4000, "weight_bytes": 375.0, "bytes": files}
    return {"network": "net", "policy": policy, **sizes, "runtimes": runtimes}


def runtime(name: str, *, differing: int, score: float) -> dict[str, Any]:
    return {
        "name": name,
        "images": 8,
        "same_predictions": 0.875,
        "score": score,
        "expected_score": 0.75,
        "integer": {"compared": 2000, "differing": {"stem": differing} if differing else {}},
        "float": {"compared": 0, "differing": {}},
    }


def row(text: str, policy: str, number: int) -> list[str]:
    lines = [line for line in text.splitlines() if line.startswith(f"| {policy} |")]
    return [cell.strip() for cell in lines[number].strip("|").split("|")]


def test_a_row_has_codes_predictions_scores_and_sizes_of_every_runtime(script: ModuleType) -> None:
    whole = document("w8a8", 8000, [runtime("c", differing=0, score=0.75), runtime("tflm", differing=3, score=0.5)])
    found = script.tables([whole, document("w3a3", 2000, [{"name": "c", "missing": "too narrow"}])])
    assert "## net, 1,000 weights" in found
    assert "| policy | c (8) | tflm (8) |" in found
    assert [row(found, "w8a8", number) for number in range(3)] == [
        ["w8a8", "0 of 2,000", "3 of 2,000"],
        ["w8a8", "87.50", "87.50"],
        ["w8a8", "75.00", "50.00 (75.00)"],
    ]
    assert row(found, "w3a3", 0) == ["w3a3", "refused", ""]
    assert row(found, "w3a3", 3)[1:4] == ["3.00", "375", "4,000"]
    assert row(found, "w3a3", 3)[-2:] == ["0.250", "1.000"]
    assert "- w3a3: too narrow" in found


def test_the_committed_tables_are_those_of_the_committed_files(
    load_script: Callable[[str], ModuleType], script: ModuleType
) -> None:
    documents = load_script("experiments/deploy_networks").read_documents(RESULTS / "deployment")
    assert documents
    assert script.tables(documents) in (RESULTS / "deployment.md").read_text(encoding="utf-8")

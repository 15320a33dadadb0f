"""Committed results agree with each other, and the check names what does not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("quick_start", "bismo-edge")


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("experiments/check_results")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A repository of its own, with the README and the first runs."""
    shutil.copy(ROOT / "README.md", tmp_path)
    for name in NAMES:
        shutil.copytree(ROOT / "results" / name, tmp_path / "results" / name)
    return tmp_path


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("check", ["tables", "quick_start", "pictures", "defaults"])
def test_committed_results_agree(script: ModuleType, check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "experiments"))  # one page loads a network from there
    assert list(getattr(script, check)(ROOT)) == []


def test_a_number_of_another_run_is_named(script: ModuleType, copy: Path) -> None:
    assert list(script.quick_start(copy)) == []
    edit(copy / "results" / NAMES[0] / "summary.json", accuracy=0.5)
    messages = "\n".join(script.quick_start(copy))
    assert "50.00 % of results/quick_start is not there" in messages
    assert "is not in results/quick_start" in messages


def test_a_missing_picture_is_named(script: ModuleType, copy: Path) -> None:
    (copy / "results" / NAMES[0] / "policy.png").unlink()
    assert list(script.pictures(copy)) == ["results/quick_start has no policy.png"]


def test_an_older_default_is_named(script: ModuleType, copy: Path) -> None:
    edit(copy / "results" / NAMES[1] / "config.json", rounding="nearest")
    (message,) = script.defaults(copy)
    assert message.startswith('results/bismo-edge was made with rounding "nearest", the default is')


def test_a_picture_of_another_policy_is_named(script: ModuleType, copy: Path) -> None:
    path = copy / "results" / NAMES[0] / "policy.json"
    layers = json.loads(path.read_text())["layers"]
    edit(path, layers=[{**layers[0], "w_bits": 7}, *layers[1:]])
    assert "results/quick_start/policy.png differs from what haq plot draws" in list(script.drawn(copy))


def test_a_changed_row_is_named(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    for ending in ("md", "csv"):
        shutil.copy(ROOT / "results" / f"finetuning-cifar.{ending}", tmp_path / "results")
    (table,) = (each for each in script.TABLES if each.page == "results/finetuning-cifar.md")
    assert list(table.missing_rows(tmp_path)) == []
    page = tmp_path / table.page
    page.write_text(page.read_text().replace("87.99", "88.00"))
    (row,) = table.missing_rows(tmp_path)
    assert row.startswith("| W4A4 |")


def test_results_are_made_for_every_folder_of_a_run(load_script: Callable[[str], ModuleType]) -> None:
    made = load_script("experiments/make_results")
    runs = {path.parent.name for path in (ROOT / "results").glob("*/config.json")}
    assert {folder.name for folder, _ in made.digits_commands(Path("runs"))} == runs
    assert all((ROOT / "scripts" / f"{name}.py").is_file() for name in made.SCRIPTS.values())
    assert all((ROOT / "results" / name / "results.json").is_file() for name in made.NETWORKS)

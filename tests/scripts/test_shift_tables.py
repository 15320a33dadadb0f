"""Tables of learned shifts on known numbers."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

ACCURACIES = {"none": (0.80, 0.82), "fixed": (0.85, 0.87), "learned": (0.86, 0.87)}


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("experiments/shift_tables")


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    moved = {"learned_shifts": 3, "mean_moved_codes": 0.5, "most_moved_codes": 1.25, "zero_points_moved": 1}
    still = dict.fromkeys(moved, 0)
    found = [
        {"seed": seed, "learn": "all", "bits": 4, "shift": shift, "accuracy": accuracy}
        | (moved if shift == "learned" else still)
        for shift, accuracies in ACCURACIES.items()
        for seed, accuracy in enumerate(accuracies)
    ]
    control = [{"seed": seed, "learn": "all", "bits": None, "shift": "float", "accuracy": 0.88} for seed in (0, 1)]
    return found + [row | still for row in control]


LOSSES = [{"bits": 4, "levels": levels, "calibrated": 1.0, "loss": loss} for levels, loss in enumerate((2.0, 0.5, 0.7))]


def test_differences_are_paired_by_seed(script: ModuleType, rows: list[dict[str, Any]]) -> None:
    cells = [cell.strip() for cell in script.table(rows, [4], "all")[-1].split("|")]
    assert cells[1:5] == ["W4A4", "81.00 ± 1.41", "86.00 ± 1.41", "86.50 ± 0.71"]
    assert cells[5] == "+5.00 (+5.00 to +5.00)"
    assert cells[6].startswith("+0.50 (")
    assert cells[7].startswith("-1.50 (")
    assert cells[8:10] == ["0.50, 1.25", "2 of 6"]


def test_loss_table_has_a_column_per_level(script: ModuleType) -> None:
    assert script.loss_table(LOSSES, [4])[-1] == "| W4A4 | 1.00 | 2.0000 | 0.5000 | 0.7000 | - | - |"


def test_picture_has_a_panel_for_each_set_of_trained_parameters(script: ModuleType, rows: list[dict[str, Any]]) -> None:
    figure = script.picture(rows, LOSSES, "title")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["everything learns", "search loss before learning"]

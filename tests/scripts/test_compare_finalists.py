"""Candidates, the choice among them, and what is compared on the report split, from made-up numbers."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from haq.runs.episode import Episode
from haq.runs.run_folder import RunFolder


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("experiments/compare_finalists")


def candidate(search: float, selection: float, report: float) -> dict[str, Any]:
    """A reconstructed policy with these divergences; its other errors order policies the other way round."""
    after = {
        split: {"divergence": value, "noise": 1 / value, "accuracy": 1 - value, "images": images}
        for split, value, images in (("search", search, 300), ("selection", selection, 100), ("report", report, 500))
    }
    return {"after": after, "before": after, "processor_seconds": 1.0}


CELL = {"policies": [candidate(0.2, 0.2, 0.2), candidate(0.1, 0.4, 0.1), candidate(0.22, 0.01, 0.4)]}


def test_errors_of_both_splits_count_by_images(script: ModuleType) -> None:
    assert [script.pooled(each["after"], "divergence") for each in CELL["policies"]] == pytest.approx(
        [0.2, 0.175, 0.1675]
    )


def test_choice_is_by_search_and_selection_images_and_only_the_bound_sees_the_report(script: ModuleType) -> None:
    assert [script.choice(CELL, count, "divergence") for count in (1, 2, 3)] == [0, 1, 2]
    assert script.choice(CELL, 3, "noise") == 0
    assert script.choice(CELL, 3, "report") == 1


def test_difference_is_from_the_first_candidate(script: ModuleType) -> None:
    assert script.difference(CELL, 0, "divergence") == 0
    assert script.difference(CELL, 2, "divergence") == pytest.approx(0.693, abs=1e-3)
    assert script.difference(CELL, 2, "accuracy") == pytest.approx(-0.2)


def test_table_counts_other_choices_and_leaves_out_what_was_not_measured(script: ModuleType) -> None:
    lines = script.table([CELL, CELL])
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert [(row[0], row[1], row[2]) for row in rows] == [
        ("2", "divergence", "2 of 2"),
        ("2", "relative output error", "0 of 2"),
        ("2", "divergence on the report split", "2 of 2"),
    ]
    assert rows[0][3] == "-50.0 % (-50.0 to -50.0)"
    assert rows[0][5] == "+10.00 (+10.00 to +10.00)"


def test_candidates_are_the_winner_and_then_the_best_other_policies(script: ModuleType, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    bits, scores = [2, 3, 4, 2, 5, 6], [-0.3, -0.2, -0.1, -0.3, -0.4, -0.05]
    for number, (width, score) in enumerate(zip(bits, scores, strict=True)):
        failure = "no memory" if width == 6 else None
        numbers = {"cost": 1.0, "accuracy": 0.5, "divergence": 0.1, "noise": -score, "reward": score, "score": score}
        losses = {"actor_loss": None, "critic_loss": None}
        run.episodes.append(Episode(episode=number, w_bits=(width,), a_bits=(8,), **numbers, **losses, failure=failure))
    found = script.candidates(run, ((3,), (8,)), 3)
    assert [episode.episode for episode in found] == [1, 2, 0]

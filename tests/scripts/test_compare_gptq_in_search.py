"""Each arm is a normal search, limited in time."""

from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import pytest

import haq
from haq.config import search_config

SETTINGS = {
    "calibration_images": 64,
    "search_images": 100,
    "report_images": 100,
    "budget": ("3bits",),
    "episodes": 5,
}


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("experiments/compare_gptq_in_search")


def test_arm_equals_search_and_respects_time(script: ModuleType) -> None:
    config = search_config(rounding="gptq", **SETTINGS)
    setup = script.prepared(config, "gptq")
    whole = script.search(config, setup, within_s=float("inf"))
    episodes, _, winner = whole.winner(float("inf"))
    found = script.row(config, "gptq", episodes=episodes, bits=winner.key, report=setup.report)
    expected = haq.search(rounding="gptq", **SETTINGS)
    assert found["accuracy"] == expected.summary.accuracy
    assert found["w_bits"] == " ".join(map(str, expected.policy.w_bits))
    assert whole.cpu_s[0] > setup.cpu_s
    assert len(script.search(config, setup, within_s=setup.cpu_s).cpu_s) == 0


def test_winner_is_selected_from_episodes_that_ended_in_time(script: ModuleType) -> None:
    session = SimpleNamespace(select=lambda count: SimpleNamespace(winner=f"of {count}"))
    searched = script.Searched(session, [3.0, 4.0, 6.0], None)
    assert searched.winner(5.0) == (2, 4.0, "of 2")
    assert searched.winner(6.0) == (3, 6.0, "of 3")
    assert searched.winner(2.9) is None


def test_differences_are_paired_by_seed(script: ModuleType) -> None:
    def rows(arm: str, accuracies: tuple[float, ...]) -> list[dict[str, object]]:
        facts = {"objective": "size", "arm": arm, "episodes": 5, "cpu_s": 1.0, "divergence": 0.5}
        return [facts | {"seed": seed, "accuracy": accuracy} for seed, accuracy in enumerate(accuracies)]

    found = rows("nearest", (0.50, 0.60)) + rows("nearest, winner by gptq", (0.51, 0.61))[::-1]
    lines = list(script.table(found + rows("gptq", (0.52, 0.63)), report_images=10**6))
    assert "+1.00 (+1.00 to +1.00)" in lines[3]  # two differences that are equal to the image
    assert "+2.50" in lines[4]
    assert "+1.50" in lines[4]

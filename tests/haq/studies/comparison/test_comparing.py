"""Plan and folders of a comparison, and the mistakes that `haq compare` reports."""

import json
from pathlib import Path
from typing import Any

import pytest

from haq.__main__ import main
from haq.config import SearchConfig, search_config
from haq.errors import UserError
from haq.studies.comparison.cell import Cell, shared_settings
from haq.studies.comparison.compare import collect
from haq.studies.comparison.plan import Comparison, plan
from haq.studies.comparison.records import POINTS, ComparisonDocument


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--agents", "dqn"), "--agents: 'dqn' is no method; choose from ddpg"),
        (("--agents", ""), "compare needs agents, each once; got none"),
        (("--agents", "ilp,ilp"), "compare needs agents, each once; got ilp, ilp"),
        (("--at", "0"), "--at '0': write numbers of evaluations"),
        (("--at", "9" * 5000), "write numbers of evaluations"),
        (("--budgets", "9bits"), "uniform bits are a whole number from 1 to 8"),
        (("--budgets", "0.6,0.001"), "no policy meets the latency budget of"),
        (("--hardware", "bismo"), "unknown device 'bismo'"),
        (("--max-accuracy-drop", "1"), "No such option"),
        (("--seeds", "100000000"), "should be less than or equal to 1000"),
        (("--data", "mine:data", "--redraw"), "--redraw draws other splits, and those of mine:data are its own"),
    ],
)
def test_mistakes_give_one_line_and_leave_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], complaint: str
) -> None:
    assert main(["compare", *flags, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert complaint in error
    assert not (tmp_path / "out").exists()


def test_redraw_gives_every_seed_its_own_split_and_repeats_deterministic_methods(tmp_path: Path) -> None:
    agents: tuple[str, ...] = ("random", "greedy")
    found = {}
    for redraw in (False, True):
        comparison = Comparison(
            config=search_config(split_seed=5),
            agents=agents,
            budgets=("0.5",),
            seeds=2,
            checkpoints=(2,),
            redraw=redraw,
        )
        configs = [cell.config for cell in plan(comparison, tmp_path)]
        found[redraw] = [(config.agent, config.seed, config.split_seed) for config in configs]
    assert found[False] == [("random", 0, 5), ("greedy", 0, 5), ("random", 1, 5)]
    assert found[True] == [("random", 0, 5), ("greedy", 0, 5), ("random", 1, 6), ("greedy", 1, 6)]


def one_search(config: SearchConfig, agent: str = "random", seeds: int = 1) -> Comparison:
    return Comparison(config=config, agents=(agent,), budgets=("0.5",), seeds=seeds, checkpoints=(2,))


def write_points(cell: Cell, **changes: Any) -> dict[str, Any]:
    """Write the files of a finished search; returns its point as it stands in the file."""
    cell.folder.mkdir(parents=True, exist_ok=True)
    (cell.folder / "config.json").write_text(cell.config.model_dump_json())
    facts = {"agent": cell.config.agent, "budget": "0.5", "seed": 0, "evaluations": 2, "accuracy_fp32": 0.9}
    point = facts | {"report_images": 100, "forward_images": 1, "accuracy": 0.9, "report_divergence": 0.1}
    point |= {"report_noise": 0.1, "cpu_seconds": 0.1, "a_later_version": [1]} | changes
    (cell.folder / POINTS).write_text(json.dumps([point]))
    return point


def test_points_of_the_same_settings_are_kept_as_they_are(tmp_path: Path) -> None:
    (cell,) = plan(one_search(search_config()), tmp_path)
    point = write_points(cell)
    before = (cell.folder / POINTS).read_bytes()
    cell.run()
    found = cell.points()
    assert found is not None
    assert [each.to_json() for each in found] == [point]
    assert (cell.folder / POINTS).read_bytes() == before


@pytest.mark.parametrize(
    "damage", [{"accuracy": "0.9"}, {"report_images": 0}, {"cpu_seconds": float("nan")}, {"evaluations": 3}]
)
def test_damaged_points_do_not_count(tmp_path: Path, damage: dict[str, Any]) -> None:
    (cell,) = plan(one_search(search_config()), tmp_path)
    write_points(cell, **damage)
    assert cell.points() is None


def test_points_of_other_settings_are_refused(tmp_path: Path) -> None:
    (cell,), (other,) = (
        plan(one_search(config), tmp_path) for config in (search_config(), search_config(reward="accuracy"))
    )
    write_points(cell)
    with pytest.raises(UserError, match='other settings: reward "fidelity" there, "accuracy" now'):
        other.run()


def test_points_of_a_deterministic_method_are_repeated_for_every_seed(tmp_path: Path) -> None:
    comparison = one_search(search_config(), agent="greedy", seeds=3)
    cells = plan(comparison, tmp_path)
    write_points(*cells)
    document = collect(comparison, cells, environment={"cores": 1})
    assert [point.seed for point in document.records] == [0, 1, 2]
    assert ComparisonDocument.model_validate_json(json.dumps(document.to_json())) == document


def test_collecting_unfinished_searches_is_an_error(tmp_path: Path) -> None:
    comparison = one_search(search_config())
    with pytest.raises(UserError, match=r"random-0\.5-s0 has no complete points\.json"):
        collect(comparison, plan(comparison, tmp_path), environment={})


def test_seeds_share_a_network_unless_policies_are_fine_tuned() -> None:
    alike, apart = (
        {shared_settings(search_config(seed=seed, episode_finetune_steps=steps)) for seed in (0, 5)} for steps in (0, 4)
    )
    assert (len(alike), len(apart)) == (1, 2)

"""What `haq compare` makes of mistakes, and of a folder that was made with other settings."""

import json
from pathlib import Path

import pytest

from haq.__main__ import main
from haq.config import SearchConfig, search_config
from haq.errors import UserError
from haq.studies.comparison.running import POINTS, Cell, Question, kept_records, run_cell, shared_settings


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
def test_mistakes_are_one_line_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], complaint: str
) -> None:
    assert main(["compare", *flags, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert complaint in error
    assert not (tmp_path / "out").exists()


def test_images_are_drawn_anew_for_every_seed(tmp_path: Path) -> None:
    """And then methods without chance answer otherwise, too."""
    agents: tuple[str, ...] = ("random", "greedy")
    asked = {"config": search_config(split_seed=5), "agents": agents, "budgets": ("0.5",), "seeds": 2}
    found = {
        redraw: [
            (cell.config.agent, cell.config.seed, cell.config.split_seed)
            for cell in Question(**asked, checkpoints=(2,), redraw=redraw).cells(tmp_path)
        ]
        for redraw in (False, True)
    }
    assert found[False] == [("random", 0, 5), ("greedy", 0, 5), ("random", 1, 5)]
    assert found[True] == [("random", 0, 5), ("greedy", 0, 5), ("random", 1, 6), ("greedy", 1, 6)]


def a_cell(folder: Path, config: SearchConfig) -> Cell:
    """The one search of a comparison."""
    question = Question(config=config, agents=("random",), budgets=("0.5",), seeds=1, checkpoints=(2,))
    return next(question.cells(folder))


def test_what_is_kept_is_of_the_same_settings(tmp_path: Path) -> None:
    cell = a_cell(tmp_path, search_config())
    cell.folder.mkdir(parents=True)
    (cell.folder / "config.json").write_text(cell.config.model_dump_json())
    facts = {"agent": "random", "budget": "0.5", "seed": 0, "evaluations": 2}
    record = {**facts, "forward_images": 1, "cpu_seconds": 0.1, "accuracy": 0.9, "report_divergence": 0.1}
    record |= {"report_noise": 0.1, "accuracy_fp32": 0.9, "report_images": 100}
    (cell.folder / POINTS).write_text(json.dumps([record]))
    assert run_cell(cell) == [record]
    for damage in ({"accuracy": "0.9"}, {"report_images": 0}, {"cpu_seconds": float("nan")}):
        (cell.folder / POINTS).write_text(json.dumps([record | damage]))
        assert kept_records(cell) is None
    with pytest.raises(UserError, match='other settings: reward "fidelity" there, "accuracy" now'):
        run_cell(a_cell(tmp_path, search_config(reward="accuracy")))


def test_seeds_share_a_network_unless_they_fine_tune_it() -> None:
    alike, apart = (
        {shared_settings(search_config(seed=seed, episode_finetune_steps=steps)) for seed in (0, 5)} for steps in (0, 4)
    )
    assert (len(alike), len(apart)) == (1, 2)

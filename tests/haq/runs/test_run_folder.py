"""The folder of a run: what a kill, a torn line or another configuration does to it."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from haq.errors import UserError
from haq.runs.run_folder import CHECKPOINT, CONFIG, ENVIRONMENT, JOURNAL, POLICY, SUMMARY, RunFolder

SETTINGS = {"model": "net", "seed": 0, "budget": ("0.6",), "pin": {"a": 4}, "weights": None}


def new_run(folder: Path) -> RunFolder:
    return RunFolder.create(folder / "run", SETTINGS, {"torch": "2"})


def one_line(caught: pytest.ExceptionInfo[UserError]) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_new_run_has_settings_and_environment(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "deep" / "run", SETTINGS, {"torch": "2"})
    assert sorted(path.name for path in run.path.iterdir()) == [CONFIG, ENVIRONMENT]
    assert json.loads((run.path / CONFIG).read_text()) == {"version": 2, **SETTINGS, "budget": ["0.6"]}
    assert run.read_json(ENVIRONMENT) == {"torch": "2"}
    assert not run.is_finished
    assert run.episodes.read(remedy="") == []
    assert run.load_checkpoint() is None


def test_run_is_created_in_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert new_run(tmp_path).read_json(CONFIG) is not None


def test_folder_with_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty; add --resume"):
        new_run(tmp_path)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("place", ["file", "file/run", "file/deep/run"])
def test_file_in_place_of_the_folder_is_refused(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError) as caught:
        RunFolder.create(tmp_path / place, SETTINGS, {})
    assert str(tmp_path / "file") in one_line(caught)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_file_is_not_reopened(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        RunFolder.reopen(tmp_path / "run", SETTINGS)


def test_run_with_equal_settings_is_reopened(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    assert RunFolder.reopen(run.path, SETTINGS) == run


def test_resolved_values_are_not_compared(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", {**SETTINGS, "resolved": {"engine": "torch"}}, {})
    assert RunFolder.reopen(tmp_path / "run", SETTINGS) is not None


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    new_run(tmp_path)
    with pytest.raises(UserError, match="run was started with other settings: seed 0 there, 1 now") as caught:
        RunFolder.reopen(tmp_path / "run", {**SETTINGS, "seed": 1})
    one_line(caught)


@pytest.mark.parametrize("config", [None, b"", b'{"model": "net", "se', b"[]", b"\xff\xfe", b"[" * 100_000])
def test_run_killed_before_its_configuration_was_complete_is_created_again(
    config: bytes | None, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ENVIRONMENT).write_text("{}")
    (folder / JOURNAL).write_text('{"episode": 0}\n')
    (folder / SUMMARY).write_text("{}")
    (folder / "thesis.txt").write_text("mine")
    if config is not None:
        (folder / CONFIG).write_bytes(config)
    assert RunFolder.reopen(folder, SETTINGS) is None
    RunFolder.check_free(folder, resume=True)
    run = RunFolder.create(folder, SETTINGS, {}, resume=True)
    assert run.episodes.read(remedy="") == []
    assert not run.is_finished
    assert RunFolder.reopen(folder, SETTINGS) == run
    assert (folder / "thesis.txt").read_text() == "mine"


def test_files_of_others_are_never_removed(tmp_path: Path) -> None:
    (tmp_path / POLICY).write_text("mine")
    with pytest.raises(UserError, match=f"holds {POLICY}, but is no folder of a run"):
        RunFolder.create(tmp_path, SETTINGS, {}, resume=True)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_files_that_a_kill_left_half_written_are_removed(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    for name in (".policy.json.haq-ab12cd34", ".sweep.csv.haq-ab12cd34", ".policy.json.swp"):
        (run.path / name).write_text("half")
    with RunFolder.opened(run.path, SETTINGS, resume=True) as opened:
        assert opened == run
    assert sorted(path.name for path in run.path.iterdir()) == [".policy.json.swp", CONFIG, ENVIRONMENT]


def test_resumable_run_is_never_created_again(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    (run.path / JOURNAL).write_text('{"episode": 0}\n')
    with pytest.raises(UserError, match="not empty"):
        RunFolder.create(run.path, SETTINGS, {}, resume=True)
    assert (run.path / JOURNAL).read_text() == '{"episode": 0}\n'


def test_there_is_nothing_to_reopen_in_a_missing_or_empty_folder(tmp_path: Path) -> None:
    assert RunFolder.reopen(tmp_path / "missing", SETTINGS) is None
    assert RunFolder.reopen(tmp_path, SETTINGS) is None


def test_what_is_not_json_is_not_written(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    with pytest.raises(ValueError, match="JSON"):
        run.write_json(SUMMARY, {"cost": float("inf")})
    assert not run.is_finished


def test_a_run_is_finished_when_its_summary_is_whole(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    (run.path / SUMMARY).write_text('{"accuracy": 0.')
    assert not run.is_finished
    run.write_json(SUMMARY, {"accuracy": 0.5})
    assert run.is_finished
    assert not [path for path in run.path.iterdir() if path.name.startswith(".")]


def test_checkpoint_round_trip_is_exact(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    state: dict[str, Any] = {"episode": 3, "agent": {"w": torch.tensor([0.1, 3.0]), "noise": [0.5, None]}}
    run.save_checkpoint(state)
    loaded = run.load_checkpoint()
    assert loaded is not None
    assert torch.equal(loaded["agent"]["w"], state["agent"]["w"])
    assert (loaded["episode"], loaded["agent"]["noise"]) == (3, [0.5, None])


class Payload:
    """What a hostile pickle does."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("touched"),))


def hostile() -> dict[str, bytes]:
    return {"empty": b"", "text": b"not a checkpoint", "pickle": pickle.dumps(Payload())}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", sorted([*hostile(), "truncated", "list"]))
def test_a_damaged_or_hostile_checkpoint_is_a_line_and_runs_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = new_run(tmp_path)
    run.save_checkpoint({"w": torch.zeros(1000)})
    path = run.path / CHECKPOINT
    if kind == "list":
        torch.save([1], path)
    else:
        path.write_bytes(path.read_bytes()[:2000] if kind == "truncated" else hostile()[kind])
    with pytest.raises(UserError, match=r"checkpoint\.pt") as caught:
        run.load_checkpoint()
    one_line(caught)
    assert not (tmp_path / "touched").exists()


def test_every_kind_of_damage_to_a_checkpoint_is_one_line(tmp_path: Path) -> None:
    run, generator = new_run(tmp_path), np.random.default_rng(0)
    state = {"episode": 3, "agent": {"w": torch.arange(40.0), "step": torch.tensor(3), "noise": [0.5, None]}}
    run.save_checkpoint(state)
    whole = (run.path / CHECKPOINT).read_bytes()
    damaged = [whole[:length] for length in range(0, len(whole), len(whole) // 40)]
    places = generator.integers(len(whole), size=160).tolist()
    damaged += [whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :] for place in places]
    refused = 0
    for content in damaged:
        (run.path / CHECKPOINT).write_bytes(content)
        try:
            loaded = run.load_checkpoint()
        except UserError as error:
            refused += str(error).startswith(f"{run.path / CHECKPOINT} is damaged; delete it")
        else:  # in padding or in what nobody reads
            assert loaded is not None
            assert str(loaded) == str(state)
            refused += 1
    assert refused == len(damaged)


def test_infinity_is_not_json_however_it_is_written(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    (run.path / SUMMARY).write_text('{"accuracy": 1e999}')
    assert run.read_json(SUMMARY) is None
    (run.path / JOURNAL).write_text('{"episode": 0, "cost": -1e400}\n')
    with pytest.raises(UserError, match="line 1: not a JSON object"):
        run.episodes.read(remedy="")


def test_a_run_of_another_command_is_not_reopened(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", {**SETTINGS, "finetune": {"epochs": 1}}, {})
    with pytest.raises(UserError, match="other settings: finetune"):
        RunFolder.reopen(run.path, SETTINGS)


def test_where_nothing_can_be_written_is_said_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=r"cannot write to .*file/run: .*file is no folder"):
        RunFolder.check_free(tmp_path / "file" / "run")


def test_a_folder_in_the_place_of_the_configuration_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / ENVIRONMENT).write_text("{}")
    (tmp_path / JOURNAL).write_text("mine")
    (tmp_path / CONFIG).mkdir()
    with pytest.raises(UserError, match=f"{CONFIG} is a folder; choose another --out"):
        RunFolder.create(tmp_path, SETTINGS, {}, resume=True)
    assert (tmp_path / JOURNAL).read_text() == "mine"

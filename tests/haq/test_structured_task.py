"""Every workflow on a task with structured inputs and outputs, and a metric of which lower is better."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, nn

import haq
from haq.config import SearchConfig
from haq.errors import UserError
from haq.experiment.preparation import prepare_network
from haq.experiment.prior.fisher import network_fisher
from haq.experiment.prior.measured import Cell, Sensitivities
from haq.tasks import loading
from haq.tasks.base import Task

SETTINGS: dict[str, Any] = {"objective": "size", "budget": 0.9, "episodes": 6, "agent": "random", "calibration": "max"}


@pytest.fixture(scope="module")
def searched(regression: Task, motion: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    out = tmp_path_factory.mktemp("structured") / "run"
    return haq.search(motion, regression, out=out, engine="torch", **SETTINGS), out


def test_a_search_stores_scores_of_which_higher_is_better(searched: tuple[Any, Path]) -> None:
    summary = searched[0].summary
    assert summary.metric.name == "rmse"
    assert summary.metric.value == -summary.accuracy > 0
    assert summary.metric.higher_is_better is False
    assert summary.interval is None
    assert -1 < summary.accuracy <= summary.accuracy_fp32 + 1e-6


def test_a_run_is_evaluated_and_loaded(searched: tuple[Any, Path], regression: Task, motion: nn.Module) -> None:
    result, out = searched
    found = haq.evaluate(out, model=motion, task=regression)
    assert found["accuracy"] == result.summary.accuracy
    model = haq.load(out, model=motion, task=regression).model
    inputs, _ = next(regression.batches("report", batch_size=4))
    with torch.no_grad():
        prediction, more = model(**inputs)
    assert prediction.shape == (4,)
    assert set(more) == {"hidden"}


@pytest.mark.parametrize("engine", ["auto", "onnxruntime"])
def test_onnxruntime_runs_dicts_of_tensors(engine: str, regression: Task, motion: nn.Module) -> None:
    config = SearchConfig(engine=engine, hardware="bismo-edge", model="motion", data="motion")
    network = prepare_network(config, model=motion, task=regression)
    assert network.engine.name == "onnxruntime", network.engine_reason
    inputs, _ = next(regression.batches("report", batch_size=4))
    prediction, more = network.engine.runner(((4,) * 4, (4,) * 4))(inputs)
    assert prediction.shape == (4,)
    assert more["hidden"].shape == (4, 8)


def test_sensitivities_of_plain_values_are_measured_and_estimated(regression: Task, motion: nn.Module) -> None:
    config = SearchConfig(engine="torch", model="motion", data="motion")
    network = prepare_network(config, model=motion, task=regression)
    measured = Sensitivities(network.engine, network.task, images=20).measure(Cell(0, "weights", 2), 4)
    assert measured.accuracy <= 0
    assert measured.divergence >= 0
    losses = network_fisher(network, loss="divergence").losses
    assert losses.shape == (4, 2, 8)
    assert (losses[:, 1, 1] > losses[:, 1, 7]).all()


def test_a_network_with_structured_outputs_is_fine_tuned(regression: Task, motion: nn.Module) -> None:
    result = haq.finetune(motion, regression, policy=(3, 3), epochs=2, batch_size=16)
    inputs, _ = next(regression.batches("report", batch_size=4))
    with torch.no_grad():
        prediction, _ = result.network(**inputs)
    assert prediction.isfinite().all()
    assert result.summary.metric.name == "rmse"


def test_a_network_with_structured_inputs_is_reconstructed(regression: Task, motion: nn.Module) -> None:
    result = haq.reconstruct(motion, regression, policy=(3, 8), steps=3, batch_size=8)
    assert result.summary.metric.name == "rmse"
    assert result.summary.accuracy <= 0


def test_a_task_is_added_by_one_entry(
    regression: Task, motion: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(loading.TASKS, "motion", loading.NamedTask(lambda *_: regression, needs_folder=False))
    found = haq.search(motion, "motion", out=tmp_path / "run", **{**SETTINGS, "episodes": 1})
    assert found.summary.metric.name == "rmse"
    with pytest.raises(UserError, match=r"expected digits, .*, motion or package"):
        loading.load_task("position")


def test_user_code_may_return_a_task(regression: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "user_tasks.py").write_text("made = None\n\ndef motion():\n    return made\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("user_tasks.made", regression)
    assert loading.load_task("user_tasks:motion") is regression


def test_episodes_fine_tune_on_structured_inputs(regression: Task, motion: nn.Module) -> None:
    found = haq.search(motion, regression, episode_finetune_steps=2, **{**SETTINGS, "episodes": 1})
    assert found.summary.episodes == 1


def test_shuffled_items_keep_their_targets(regression: Task) -> None:
    inputs, targets = next(regression.shuffled("train", batch_size=8, generator=Generator().manual_seed(0)))
    assert torch.allclose(inputs["position"].sum(dim=1) + 2 * inputs["speed"].sum(dim=1), targets)

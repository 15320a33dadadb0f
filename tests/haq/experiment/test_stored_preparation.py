"""Cached quantizers and losses of layers are those that would be computed, and of nothing else."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import haq
from haq.config import search_config
from haq.execution.progress import SILENT
from haq.experiment import stored_preparation as module
from haq.experiment.artifact import load_artifact
from haq.experiment.evaluate import evaluate_artifact
from haq.experiment.inputs import Inputs
from haq.experiment.preparation import prepare_network
from haq.experiment.prior import compute as priors
from haq.experiment.prior.layer_losses import LayerLosses
from haq.policy import Policy
from haq.quantization import quantizers
from haq.quantization.calibration_pass import Calibration
from haq.sensitivity import measure
from haq.studies.comparison import cell
from haq.studies.pareto import chain
from haq.tasks.classification import ClassificationTask
from haq.tasks.items import StoredSplit
from tests.haq.conftest import Blobs, TinyNet

SETTINGS: dict[str, Any] = {
    "budget": 0.6,
    "episodes": 2,
    "agent": "surrogate",
    "first_last_bits": None,
    "engine": "torch",
}
Search = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HAQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "WORTH_STORING_S", 0.0)
    return tmp_path / "cache"


@pytest.fixture
def search(tmp_path: Path) -> Search:
    """Search, and return the journal without times."""

    def run(net: nn.Module, task: ClassificationTask, **settings: Any) -> list[dict[str, Any]]:
        folder = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        haq.search(net, task, out=folder, **SETTINGS | settings)
        lines = map(json.loads, (folder / "episodes.jsonl").read_text().splitlines())
        return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]

    return run


def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that names what is computed from now on."""
    found: list[str] = []
    calibrate, fisher = quantizers.calibrate, priors.PRIORS["fisher"]

    def calibrated(*arguments: Any, **settings: Any) -> Calibration:
        found.append("quantizers")
        return calibrate(*arguments, **settings)

    def estimated(*arguments: Any) -> LayerLosses:
        found.append("losses")
        return fisher(*arguments)

    monkeypatch.setattr(quantizers, "calibrate", calibrated)
    monkeypatch.setattr(priors, "PRIORS", {**priors.PRIORS, "fisher": estimated})
    return found


@pytest.mark.parametrize("rounding", ["gptq", "nearest"])
def test_a_second_search_computes_nothing_again_and_writes_the_same(
    cache: Path, search: Search, tiny_net: TinyNet, tiny_task: ClassificationTask, rounding: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    found = computed(monkeypatch)
    first = search(tiny_net, tiny_task, rounding=rounding)
    assert sorted(found) == ["losses", "quantizers"]
    assert sorted(path.name.partition("-")[0] for path in cache.glob("[lq]*-*")) == ["losses", "quantizers"]
    found.clear()
    assert search(tiny_net, tiny_task, rounding=rounding) == first
    assert search(tiny_net, tiny_task, rounding=rounding, hardware="bismo-cloud", budget=0.9) != first
    assert not found


@pytest.mark.parametrize("damage", [lambda content: content[:-9], lambda _: b"", lambda _: b"PK\x03\x04 no archive"])
def test_damaged_files_are_computed_again(
    cache: Path, search: Search, tiny_net: TinyNet, tiny_task: ClassificationTask,
    damage: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    first = search(tiny_net, tiny_task)
    for path in cache.glob("[lq]*-*"):
        path.write_bytes(damage(path.read_bytes()))
    found = computed(monkeypatch)
    assert search(tiny_net, tiny_task) == first
    assert sorted(found) == ["losses", "quantizers"]


@pytest.mark.usefixtures("cache")
def test_other_weights_inputs_or_settings_are_computed(
    search: Search, tiny_net: TinyNet, tiny_task: ClassificationTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(tiny_net, tiny_task)
    found = computed(monkeypatch)
    search(tiny_net, tiny_task, calibration="max")
    search(tiny_net, tiny_task, eval_batch=32)  # Hessians sample positions in each batch
    other_images = replace(tiny_task, splits={**tiny_task.splits, "calibration": StoredSplit(Blobs(40, 9))})
    search(tiny_net, other_images)
    with torch.no_grad():
        tiny_net.mix.weight[1, 1] += 0.01
    search(tiny_net, tiny_task)
    assert sorted(found) == ["losses"] * 4 + ["quantizers"] * 4


@pytest.mark.usefixtures("cache")
def test_warnings_are_kept(
    search: Search, tiny_net: TinyNet, tiny_task: ClassificationTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrate = quantizers.calibrate

    def warned(*arguments: Any, **settings: Any) -> Calibration:
        return replace(calibrate(*arguments, **settings), warning="a call was not traced")

    monkeypatch.setattr(quantizers, "calibrate", warned)
    for _ in range(2):
        with pytest.warns(UserWarning, match="a call was not traced"):
            search(tiny_net, tiny_task)
        monkeypatch.setattr(quantizers, "calibrate", calibrate)


def test_what_takes_no_time_is_not_stored(
    cache: Path, search: Search, tiny_net: TinyNet, tiny_task: ClassificationTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WORTH_STORING_S", 1e6)
    search(tiny_net, tiny_task)
    assert not list(cache.glob("[lq]*-*"))


def evaluated(net: nn.Module, task: ClassificationTask, policy: Policy) -> object:
    settings = search_config(rounding="gptq")
    return evaluate_artifact(load_artifact(policy, settings, inputs=Inputs(net, task)))


def reconstructed(net: nn.Module, task: ClassificationTask, policy: Policy) -> object:
    artifact = haq.reconstruct(net, task, policy=policy, steps=2, rounding="gptq").artifact
    assert artifact is not None
    return {name: tensor.tolist() for name, tensor in (artifact.quantized.tensors or {}).items()}


@pytest.mark.parametrize("use", [evaluated, reconstructed])
def test_a_policy_is_calibrated_once(
    cache: Path, tiny_net: TinyNet, tiny_task: ClassificationTask, use: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    policy, other = (haq.reconstruct(tiny_net, tiny_task, policy=(bits, 8), steps=1).policy for bits in (4, 3))
    for path in cache.glob("q*"):
        path.unlink()
    found = computed(monkeypatch)
    cold = use(tiny_net, tiny_task, policy)
    assert found == ["quantizers"]
    assert use(tiny_net, tiny_task, policy) == cold
    assert found == ["quantizers"]
    assert use(tiny_net, tiny_task, other) != cold
    assert found == ["quantizers"] * 2


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("use", [evaluated, reconstructed])
def test_the_policy_of_a_search_is_not_calibrated_again(
    search: Search, tiny_net: TinyNet, tiny_task: ClassificationTask, use: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    policy = haq.reconstruct(tiny_net, tiny_task, policy=(4, 8), steps=1).policy
    cold = use(tiny_net, tiny_task, policy)
    for path in module.cache_dir().glob("q*"):
        path.unlink()
    search(tiny_net, tiny_task, rounding="gptq")
    found = computed(monkeypatch)
    assert use(tiny_net, tiny_task, policy) == cold
    assert not found


@pytest.mark.usefixtures("cache")
def test_sweeps_comparisons_and_sensitivities_calibrate_once(
    search: Search, tiny_net: TinyNet, tiny_task: ClassificationTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = partial(prepare_network, model=tiny_net, task=tiny_task)
    for user in (chain, cell, measure):
        monkeypatch.setattr(user, "prepare_network", prepare)
    found, config = computed(monkeypatch), search_config(**SETTINGS)
    chain._prepare_inputs(config, tmp_path / "evaluations", SILENT)
    assert sorted(found) == ["losses", "quantizers"]
    cell._Shared(config)
    measure.measure_sensitivities(config, tmp_path / "sensitivity", extent=measure.Extent(fisher_only=True))
    search(tiny_net, tiny_task)
    assert sorted(found) == ["losses", "quantizers"]

"""Cached quantizers and losses of layers are those that would be computed, and of nothing else."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import haq
from haq.experiment import stored_preparation as module
from haq.experiment.prior import compute as priors
from haq.experiment.prior.layer_losses import LayerLosses
from haq.quantization import activations
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
    calibrate, fisher = activations.calibrate, priors.PRIORS["fisher"]

    def calibrated(*arguments: Any) -> activations.Calibration:
        found.append("quantizers")
        return calibrate(*arguments)

    def estimated(*arguments: Any) -> LayerLosses:
        found.append("losses")
        return fisher(*arguments)

    monkeypatch.setattr(activations, "calibrate", calibrated)
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
    other_images = replace(tiny_task, splits={**tiny_task.splits, "calibration": StoredSplit(Blobs(40, 9))})
    search(tiny_net, other_images)
    with torch.no_grad():
        tiny_net.mix.weight[1, 1] += 0.01
    search(tiny_net, tiny_task)
    assert sorted(found) == ["losses"] * 3 + ["quantizers"] * 3


@pytest.mark.usefixtures("cache")
def test_warnings_are_kept(
    search: Search, tiny_net: TinyNet, tiny_task: ClassificationTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrate = activations.calibrate
    warned = lambda *arguments: replace(calibrate(*arguments), warning="a call was not traced")  # noqa: E731
    monkeypatch.setattr(activations, "calibrate", warned)
    for _ in range(2):
        with pytest.warns(UserWarning, match="a call was not traced"):
            search(tiny_net, tiny_task)
        monkeypatch.setattr(activations, "calibrate", calibrate)


def test_what_takes_no_time_is_not_stored(
    cache: Path, search: Search, tiny_net: TinyNet, tiny_task: ClassificationTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WORTH_STORING_S", 1e6)
    search(tiny_net, tiny_task)
    assert not list(cache.glob("[lq]*-*"))

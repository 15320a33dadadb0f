"""Runs for a deployment target: bits and quantizers keep its rules, and settings that contradict it are refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import haq
from haq.config import search_config
from haq.errors import UserError
from haq.evaluation.fingerprint import fingerprint
from haq.experiment.preparation import prepare_network
from haq.experiment.quantizer_settings import quantizer_options
from haq.experiment.target_quantizers import are_powers_of_two, require_legal_quantizers
from haq.exporters.deployable import make_deployable
from haq.exporters.formats import ExportOptions
from haq.exporters.qonnx.exporter import QonnxExporter
from haq.layer_bits import uniform_bits
from haq.network.layer_calls import weight_of
from haq.policy import Policy
from haq.tasks.base import SplitName
from haq.tasks.classification import ClassificationTask
from haq.tasks.items import StoredSplit
from hardware_sim.target_catalog import load_target

pytestmark = pytest.mark.filterwarnings("ignore:the float network's accuracy")
FAST: dict[str, Any] = {
    "agent": "random",
    "episodes": 3,
    "rounding": "nearest",
    "engine": "torch",
    "prior": "none",
    "first_last_bits": None,
    "objective": "size",
    "budget": 0.8,
}


class Items:
    """Random images, labelled by the sign of their sum."""

    def __init__(self, seed: int) -> None:
        self.images = torch.randn(32, 2, 6, 6, generator=torch.Generator().manual_seed(seed))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]:
        return self.images[index], int(self.images[index].sum() > 0)


@pytest.fixture
def task() -> ClassificationTask:
    names: tuple[SplitName, ...] = ("calibration", "search", "report", "train")
    splits = {name: StoredSplit(Items(seed)) for seed, name in enumerate(names)}
    return ClassificationTask(name="signs", splits=splits, num_classes=2, facts={})


@pytest.fixture
def net() -> nn.Module:
    """Convolutions with SiLU, whose skewed outputs get zero points where they may."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(2, 8, 3), nn.SiLU(), nn.Conv2d(8, 8, 3, groups=2), nn.SiLU(), nn.Flatten(), nn.Linear(32, 2)
        )


def zero_points(tensors: dict[str, Tensor]) -> list[int]:
    return [int(tensor) for name, tensor in tensors.items() if name.endswith(".input.zero_point")]


@pytest.mark.parametrize("name", ["tflm", "finn", "imx500", "hls4ml"])
def test_a_search_keeps_the_rules_of_its_target(name: str, net: nn.Module, task: ClassificationTask) -> None:
    target = load_target(name)
    result = haq.search(net, task, deploy=name, **{**FAST, "budget": 1.0 if name == "tflm" else 0.8})
    assert all(target.allows(layer.w_bits, layer.a_bits) for layer in result.policy.layers)
    assert result.artifact is not None
    tensors = dict(result.artifact.quantizers)
    require_legal_quantizers(target, tensors)
    assert any(zero_points(tensors)) == target.zero_points
    assert {layer.w_granularity for layer in result.policy.layers} == {target.weight_granularity}


def test_a_run_keeps_its_target(net: nn.Module, task: ClassificationTask, tmp_path: Path) -> None:
    result = haq.search(net, task, deploy="hls4ml", out=tmp_path / "run", **FAST)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["deploy"] == "hls4ml"
    assert haq.evaluate(tmp_path / "run", model=net, task=task)["accuracy"] == result.summary.accuracy
    artifact = haq.load(tmp_path / "run", model=net, task=task)
    assert artifact.model(task.example()).shape == (1, 2)
    assert artifact.priced.table.notes == haq.load(tmp_path / "run", model=net, task=task).priced.table.notes
    with pytest.raises(UserError, match="was started with other settings: deploy"):
        haq.search(net, task, deploy="finn", out=tmp_path / "run", resume=True, **FAST)


def uniform(net: nn.Module, task: ClassificationTask, w_bits: int, a_bits: int) -> Policy:
    config = search_config(model="Sequential", data="signs", engine="torch")
    layers = prepare_network(config, model=net, task=task).priced.layers
    bits = uniform_bits(layers, w_bits=w_bits, a_bits=a_bits)
    return Policy(model="Sequential", hardware="bismo-edge", objective=None, layers=bits)


def test_evaluation_refuses_a_policy_that_breaks_a_rule(net: nn.Module, task: ClassificationTask) -> None:
    with pytest.raises(UserError) as caught:
        haq.evaluate(uniform(net, task, 3, 8), model=net, task=task, deploy="imx500", engine="torch")
    assert str(caught.value) == (
        "layer '0' has 3-bit weights and 8-bit activations, which --deploy imx500 does not take; "
        "legal are weights of 2, 4 or 8 bits with activations of 8 bits"
    )


def test_evaluation_under_a_target_calibrates_a_searched_policy_again(
    net: nn.Module, task: ClassificationTask, tmp_path: Path
) -> None:
    haq.search(net, task, out=tmp_path / "run", **FAST)
    artifacts = [haq.load(tmp_path / "run", model=net, task=task, **settings) for settings in ({}, {"deploy": "mcu-c"})]
    assert all(artifact.quantizers for artifact in artifacts)
    assert not haq.load(tmp_path / "run", model=net, task=task, deploy="finn").quantizers


def test_evaluations_of_other_rules_have_other_keys(net: nn.Module, task: ClassificationTask) -> None:
    keys = set()
    for deploy in (None, "imx500"):
        fast: dict[str, Any] = {"engine": "torch", "rounding": "nearest", "calibration": "max"}
        config = search_config(model="Sequential", data="signs", deploy=deploy, **fast)
        network = prepare_network(config, model=net, task=task)
        inputs, _ = next(task.batches("search", batch_size=8))
        keys.add(fingerprint(network.engine, inputs, layers=3, settings=(), data=b""))
    assert len(keys) == 2


@pytest.mark.parametrize("name", ["hls4ml", "finn"])
def test_reconstruction_keeps_the_rules(name: str, net: nn.Module, task: ClassificationTask, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"policy": (4, 8), "steps": 2, "engine": "torch", "rounding": "nearest", "deploy": name}
    result = haq.reconstruct(net, task, out=tmp_path / "run", **settings)
    assert result.artifact is not None
    require_legal_quantizers(load_target(name), result.artifact.quantizers)
    scales = [tensor for key, tensor in result.artifact.quantizers.items() if key.endswith(".weight.scale")]
    assert all(map(are_powers_of_two, scales)) == (name == "hls4ml")
    assert haq.load(tmp_path / "run", model=net, task=task, deploy="mcu-c").quantizers
    if name == "finn":
        with pytest.raises(UserError, match=r"input quantizer of layer '.' has a scale that is no power of two"):
            haq.load(tmp_path / "run", model=net, task=task, deploy="imx500")


def test_fine_tuning_learns_no_zero_points_that_the_target_lacks(
    net: nn.Module, task: ClassificationTask, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"policy": (4, 4), "epochs": 1, "batch_size": 16}
    result = haq.finetune(net, task, out=tmp_path / "run", deploy="finn", **settings)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["finetune"]["shift"] == "none"
    assert result.artifact is not None
    require_legal_quantizers(load_target("finn"), result.artifact.quantizers)
    with pytest.raises(UserError, match="--shift learned: --deploy finn has no zero points; use --shift none"):
        haq.finetune(net, task, deploy="finn", shift="learned", **settings)
    with pytest.raises(UserError, match="layer '2' has 4-bit weights and 4-bit activations, which --deploy tflm"):
        haq.finetune(net, task, deploy="tflm", **settings)


@pytest.mark.parametrize("name", ["hls4ml", "imx500"])
def test_fine_tuning_keeps_scales_that_the_target_restricts(
    name: str, net: nn.Module, task: ClassificationTask, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"policy": (4, 8), "epochs": 2, "batch_size": 16, "lr": 0.01}
    haq.finetune(net, task, out=tmp_path / "run", deploy=name, **settings)
    loaded = haq.load(tmp_path / "run", model=net, task=task)
    require_legal_quantizers(load_target(name), loaded.quantizers)
    network = make_deployable(loaded)
    trained = loaded.quantized.trained_network(network.network.priced.model, network.trace)
    for layer, (site, bits) in enumerate(zip(network.trace.sites, network.policy.w_bits, strict=True)):
        learned = trained.weights[str(layer)](weight_of(trained.model, site))
        assert torch.equal(learned, network.quantizers.weight(layer, bits or 0))
    if name == "hls4ml":
        export = QonnxExporter().build(network, ExportOptions(toolchain=name))
        assert "hls4ml: nothing known against it" in export.notes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quantizer": "kmeans"}, "--deploy finn takes integers, not codebooks; use --quantizer linear"),
        ({"episode_finetune_steps": 2}, "--episode-finetune-steps learns scales and zero points, which --deploy finn"),
    ],
)
def test_settings_that_contradict_a_target_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        quantizer_options(search_config(deploy="finn", **settings))


def test_quantizers_without_a_target_have_no_rules() -> None:
    plain, target = (quantizer_options(search_config(deploy=deploy)) for deploy in (None, "mcu-c"))
    assert plain == target
    assert quantizer_options(search_config(deploy="finn")).zero_points == "none"

"""Fine-tuned float offsets of inputs: evaluated and exported as they were trained, and refused by other formats."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import haq
from haq.errors import UserError
from haq.execution.networks import run_network
from haq.exporters.deployable import make_deployable
from haq.exporters.export import export_artifact
from haq.exporters.verify import verify_network
from haq.tasks.base import SplitName
from haq.tasks.classification import ClassificationTask
from haq.tasks.items import StoredSplit

pytestmark = pytest.mark.filterwarnings("ignore:the float network's accuracy")
IMAGES = torch.randn(32, 2, 6, 6, generator=torch.Generator().manual_seed(1))
SETTINGS: dict[str, Any] = {"policy": (4, 4), "shift": "float", "epochs": 4, "batch_size": 8, "scale_lr": 0.1}


class Items:
    """Random images, labelled by the sign of their sum."""

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]:
        return IMAGES[index], int(IMAGES[index].sum() > 0)


@pytest.fixture(scope="module")
def task() -> ClassificationTask:
    names: tuple[SplitName, ...] = ("calibration", "search", "report", "train")
    splits = {name: StoredSplit(Items()) for name in names}
    return ClassificationTask(name="signs", splits=splits, num_classes=2, facts={})


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """Padded convolutions, one of them depthwise and one before a batch norm, that read outputs of SiLU."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.SiLU(),
            nn.Conv2d(8, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4), nn.SiLU(), nn.Flatten(),
            nn.Linear(36, 2),
        ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def run(net: nn.Module, task: ClassificationTask, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("offsets") / "run"
    haq.finetune(net, task, out=path, **SETTINGS)
    return path


def test_a_saved_network_has_its_offsets_and_is_evaluated_as_trained(
    net: nn.Module, task: ClassificationTask, run: Path
) -> None:
    artifact = haq.load(run, model=net, task=task)
    offsets = {name: tensor for name, tensor in artifact.quantizers.items() if name.endswith(".input.offset")}
    assert set(offsets) >= {"2.input.offset", "4.input.offset", "8.input.offset"}
    scales = [artifact.quantizers[name.replace("offset", "scale")] for name in offsets]
    assert max((tensor / scale).abs().item() for tensor, scale in zip(offsets.values(), scales, strict=True)) > 0.05
    network = make_deployable(artifact)
    again = haq.finetune(net, task, out=run, resume=True, **SETTINGS)
    with torch.no_grad():
        outputs = run_network(again.network, IMAGES)
        assert isinstance(outputs, Tensor)
        assert torch.equal(network.evaluated(IMAGES), outputs)


def test_exported_files_hold_offsets_exactly(net: nn.Module, task: ClassificationTask, run: Path) -> None:
    record = verify_network(make_deployable(haq.load(run, model=net, task=task)), ["onnxruntime"])
    (onnxruntime,) = record.runtimes
    assert onnxruntime.outputs is not None
    assert onnxruntime.outputs.noise < 1e-6
    assert [codes.differing for codes in onnxruntime.layers] == [0, 0, 0, 0]
    assert all(codes.compared > 0 for codes in onnxruntime.layers)


@pytest.mark.parametrize("name", ["c", "packed", "qonnx", "tflite", "aimet"])
def test_formats_without_offsets_refuse_them(name: str, net: nn.Module, task: ClassificationTask, run: Path) -> None:
    with pytest.raises(
        UserError, match=f"^--format {name} cannot hold the offsets of --shift float; use --format onnx"
    ):
        export_artifact(haq.load(run, model=net, task=task), name)


def test_targets_without_offsets_refuse_to_learn_them(net: nn.Module, task: ClassificationTask) -> None:
    with pytest.raises(UserError, match="--shift float: --deploy mcu-c has no offsets; use --shift learned"):
        haq.finetune(net, task, policy=(8, 8), deploy="mcu-c", shift="float")

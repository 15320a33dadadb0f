"""Networks of torchvision, with random weights, through a few steps of fine-tuning."""

import math
from pathlib import Path

import pytest
import torch

import haq
from haq.network.zoo import build_model
from haq.tasks.base import SplitName
from haq.tasks.classification import ClassificationTask
from haq.tasks.items import StoredSplit

NAMES = ("resnet18", "resnet34", "resnet50", "mobilenet_v2", "efficientnet_b0")


class Noise:
    """Images [3, 32, 32] of two classes, one brighter than the other."""

    def __init__(self, count: int, seed: int) -> None:
        self.labels = [index % 2 for index in range(count)]
        drawn = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
        self.images = drawn + torch.tensor(self.labels)[:, None, None, None]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int, /) -> tuple[torch.Tensor, int]:
        return self.images[index], self.labels[index]


@pytest.fixture
def noise() -> ClassificationTask:
    names: tuple[SplitName, ...] = ("train", "calibration", "search", "report")
    splits = {name: StoredSplit(Noise(4, seed)) for seed, name in enumerate(names)}
    return ClassificationTask(name="noise", splits=splits, num_classes=2, facts={})


@pytest.mark.parametrize("name", NAMES)
def test_a_few_steps(name: str, noise: ClassificationTask, tmp_path: Path) -> None:
    model = build_model(f"torchvision:{name}", num_classes=2)
    settings = {
        "policy": (4, 4),
        "epochs": 1,
        "batch_size": 2,
        "norm_images": 4,
        "eval_batch": 4,
        "calibration_images": 4,
        "calibration": "max",
    }
    result = haq.finetune(model, noise, out=tmp_path / "run", **settings)
    again = haq.finetune(model, noise, out=tmp_path / "run", resume=True, **settings)
    inputs = next(noise.batches("report", batch_size=4))[0]
    with torch.no_grad():
        outputs = result.network(inputs)
        assert torch.equal(outputs, again.network(inputs))
        assert not torch.equal(outputs, model(inputs))
    assert outputs.isfinite().all()
    line = (tmp_path / "run" / "epochs.jsonl").read_text()
    assert math.isfinite(float(line.partition('"loss": ')[2].partition(",")[0]))

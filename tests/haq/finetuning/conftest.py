"""A train split for the tiny task, and a network that is to learn from it."""

import pytest
import torch
from torch import Generator, Tensor, nn

from haq.network.layers import Trace, trace
from haq.tasks.base import SplitName
from haq.tasks.classification import ClassificationTask
from haq.tasks.items import StoredSplit


class Quarters:
    """Random images [1, 6, 6] whose label is the brightest of four quarters."""

    def __init__(self, count: int, seed: int) -> None:
        self.images = torch.rand(count, 1, 6, 6, generator=Generator().manual_seed(seed))
        quarters = self.images.unfold(2, 3, 3).unfold(3, 3, 3).mean(dim=(4, 5)).flatten(1)
        self.labels = quarters.argmax(dim=1).tolist()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]:
        return self.images[index], self.labels[index]


@pytest.fixture
def quarters() -> ClassificationTask:
    """96 train images, and 48 for each of the other splits; four classes."""
    names: tuple[SplitName, ...] = ("train", "calibration", "search", "report")
    splits = {name: StoredSplit(Quarters(96 if name == "train" else 48, seed)) for seed, name in enumerate(names)}
    return ClassificationTask(name="quarters", splits=splits, num_classes=4, facts={})


class SmallNet(nn.Module):
    """Convolutions with a batch norm, a skewed activation, a depthwise layer and one layer that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, stride=3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 1, groups=8)
        self.mix = nn.Conv2d(8, 8, 1)
        self.classifier = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.silu(self.norm(self.stem(x)))
        x = nn.functional.silu(self.mix(nn.functional.silu(self.mix(self.depthwise(x)))))
        scores: Tensor = self.classifier(x.flatten(1))
        return scores


@pytest.fixture
def small_net() -> SmallNet:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return SmallNet().eval()


@pytest.fixture
def small_trace(small_net: SmallNet) -> Trace:
    return trace(small_net, torch.zeros(1, 1, 6, 6))

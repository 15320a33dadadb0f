"""A network of three layers and images of four classes, on which commands take a fraction of a second.

Given as `--model tiny_task:network --data tiny_task:data` in this folder.
"""

import torch
from torch import Generator, Tensor, nn

SIZES = {"train": 64, "calibration": 32, "search": 40, "report": 40}


class Quarters:
    """Random images [1, 6, 6] whose class is the brightest of four quarters."""

    def __init__(self, count: int, seed: int) -> None:
        self._images = torch.rand(count, 1, 6, 6, generator=Generator().manual_seed(seed))
        means = self._images.unfold(2, 3, 3).unfold(3, 3, 3).mean(dim=(4, 5))
        self._classes = means.flatten(1).argmax(dim=1).tolist()

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]:
        return self._images[index], self._classes[index]


def data() -> dict[str, Quarters]:
    """Return the data sets by split."""
    return {name: Quarters(size, seed) for seed, (name, size) in enumerate(SIZES.items())}


def network() -> nn.Module:
    """Return a network that classifies the images without training, with some random weights in addition."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        conv, mix, last = nn.Conv2d(1, 4, 3, stride=3, bias=False), nn.Conv2d(4, 8, 1), nn.Linear(32, 4)
    assert mix.bias is not None
    with torch.no_grad():
        conv.weight[0], mix.weight[0], mix.bias[0] = 1 / 9, 0.0, 0.0
        mix.weight[0, 0] = 1.0
        last.weight.mul_(0.01)
        last.bias.zero_()
        for quarter in range(4):
            last.weight[quarter, quarter] = 5.0
    return nn.Sequential(conv, nn.BatchNorm2d(4), nn.ReLU(), mix, nn.ReLU(), nn.Flatten(), last)

"""A task of one's own: find the pixels of a disc, and search the bits of a small network for it.

    python examples/segmentation.py

A task holds data in splits, a loss, a metric, and a distance between the outputs of two networks. Any object with these
methods (`haq.tasks.base.Task`) is searched, fine-tuned, reconstructed and exported like the built-in tasks. From the
command line, name functions without arguments: `--model segmentation:trained_network --data segmentation:DiscTask`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax

import haq
from haq.errors import UserError
from haq.searching.search import SearchResult
from haq.tasks.base import SplitName
from haq.tasks.distances import Distance
from haq.tasks.metrics import Metric

SIDE = 16
SIZES: Mapping[SplitName, int] = {"train": 256, "calibration": 32, "search": 48, "report": 64}


class IntersectionOverUnion:
    """Meter of the overlap of found and true pixels of the disc, summed over all images."""

    def __init__(self) -> None:
        self.common = self.either = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch of logits [n, 2, h, w] and classes [n, h, w]."""
        found, true = outputs.argmax(dim=1) == 1, targets == 1
        self.common += int((found & true).sum())
        self.either += int((found | true).sum())

    def compute(self) -> float:
        """Return the overlap in [0, 1]."""
        return self.common / max(self.either, 1)


class DiscTask:
    """Noisy images [1, 16, 16] of a disc; targets are the class of each pixel, 1 on the disc."""

    name = "discs"
    metric = Metric(name="IoU", low=0.0, high=1.0, format="percent")

    def __init__(self) -> None:
        self.data = {split: draw_discs(size, seed) for seed, (split, size) in enumerate(SIZES.items())}

    def size(self, split: SplitName) -> int:
        """Return the number of images of a split; 0 if there is none of this name."""
        return SIZES.get(split, 0)

    def batches(self, split: SplitName, *, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over a split in order."""
        return self._in_order(split, torch.arange(self.size(split)), batch_size)

    def shuffled(self, split: SplitName, *, batch_size: int, generator: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over a split in random order."""
        return self._in_order(split, torch.randperm(self.size(split), generator=generator), batch_size)

    def example(self) -> Tensor:
        """Return one input, with which the network is traced."""
        return self.data["calibration"][0][:1]

    def prepare(self) -> None:
        """Read nothing: the images are made in memory."""

    def validate(self, model: nn.Module) -> None:
        """Refuse networks whose outputs are not logits of two classes for each pixel."""
        with torch.no_grad():
            outputs = model(self.example())
        if not isinstance(outputs, Tensor) or outputs.shape != (1, 2, SIDE, SIDE):
            raise UserError(f"{self.name} needs logits [n, 2, {SIDE}, {SIDE}]")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross entropy of the pixels."""
        return cross_entropy(outputs, targets)

    def distance(self, outputs: Tensor, reference: Tensor) -> Distance:
        """Return the KL divergence of the pixels, and the power of the difference of the logits."""
        found, expected = log_softmax(outputs, dim=1), log_softmax(reference, dim=1)
        divergence = kl_div(found, expected, reduction="sum", log_target=True) / SIDE**2
        error = (outputs - reference).square().sum(dtype=torch.float64)
        return Distance(divergence, error, reference.square().sum(dtype=torch.float64))

    def meter(self) -> IntersectionOverUnion:
        """Return a new meter of the metric."""
        return IntersectionOverUnion()

    def description(self) -> Mapping[str, Any]:
        """Return what a run records about the data."""
        return {"name": self.name, "sizes": dict(SIZES)}

    def _in_order(self, split: SplitName, order: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for places in torch.split(order, batch_size) if len(order) else ():
            yield self.data[split][0][places], self.data[split][1][places]


def draw_discs(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return images [n, 1, h, w] and the class of each pixel [n, h, w]."""
    generator = Generator().manual_seed(seed)
    centre = 4 + 8 * torch.rand(count, 2, 1, 1, generator=generator)
    radius = 2 + 2 * torch.rand(count, 1, 1, generator=generator)
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    inside = (rows - centre[:, 0]) ** 2 + (columns - centre[:, 1]) ** 2 <= radius**2
    images = inside[:, None] * 0.6 + 0.4 * torch.rand(count, 1, SIDE, SIDE, generator=generator)
    return images, inside.long()


def trained_network(steps: int = 60) -> nn.Module:
    """Train a small convolutional network for a second."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 2, 1)
        )
    task, optimizer = DiscTask(), torch.optim.Adam(network.parameters(), lr=0.01)
    images, targets = task.data["train"]
    for _ in range(steps):
        optimizer.zero_grad()
        task.loss(network(images), targets).backward()
        optimizer.step()
    return network.eval()


def search(episodes: int = 30) -> SearchResult:
    """Search the bits of the network at 60 % of the latency of 8 bits."""
    return haq.search(trained_network(), DiscTask(), hardware="bismo-edge", budget=0.75, episodes=episodes)


if __name__ == "__main__":
    result = search()
    print(result.policy.w_bits, result.policy.a_bits)
    metric = DiscTask.metric
    print(f"{metric.text(result.summary.accuracy)}, float {metric.text(result.summary.accuracy_fp32)}")

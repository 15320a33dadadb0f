"""A small network with depthwise convolutions and SiLU for 32x32 images, and its training on CIFAR-10.

    python scripts/experiments/depthwise_silu.py --data cifar10:DIR --out depthwise_silu.safetensors
    PYTHONPATH=scripts/experiments haq search --model depthwise_silu:depthwise_silu \\
        --weights depthwise_silu.safetensors --data cifar10:DIR
"""

import argparse
from pathlib import Path

import torch
from rich.progress import track
from safetensors.torch import save
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, pad

from haq.files import write_atomically
from haq.tasks import load_task
from haq.tasks.base import Task

BATCH = 128


def _conv_bn(c_in: int, c_out: int, *, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(c_out)]


class _Separable(nn.Module):
    """Depthwise and pointwise convolution, each with SiLU, and a shortcut where shapes match (Howard et al. 2017)."""

    def __init__(self, c_in: int, c_out: int, *, stride: int) -> None:
        super().__init__()
        self.shortcut = stride == 1 and c_in == c_out
        self.depthwise = nn.Sequential(*_conv_bn(c_in, c_in, kernel=3, stride=stride, groups=c_in), nn.SiLU())
        self.pointwise = nn.Sequential(*_conv_bn(c_in, c_out), nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pointwise(self.depthwise(x))
        return x + y if self.shortcut else y


def depthwise_silu() -> nn.Module:
    """Build the network: images [n, 3, 32, 32] to scores [n, 10], 18 layers, 8 of them depthwise, 92 k weights."""
    shapes = [(32, 1), (48, 2), (48, 1), (96, 2), (96, 1), (96, 1), (192, 2), (192, 1)]
    blocks, c_in = [], 32
    for c_out, stride in shapes:
        blocks.append(_Separable(c_in, c_out, stride=stride))
        c_in = c_out
    stem = nn.Sequential(*_conv_bn(3, 32, kernel=3), nn.SiLU())
    return nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c_in, 10))


def augmented(images: Tensor, generator: Generator) -> Tensor:
    """Mirror half of the images at random, and shift all by up to four pixels."""
    flip = torch.rand(len(images), generator=generator) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    size, moves = images.shape[-1], torch.randint(0, 9, (len(images), 2), generator=generator).tolist()
    wide = pad(images, (4, 4, 4, 4))
    return torch.stack([image[:, y : y + size, x : x + size] for image, (y, x) in zip(wide, moves, strict=True)])


def train(task: Task, *, epochs: int, seed: int, peak: float = 0.4) -> nn.Module:
    """Train by SGD with a one-cycle learning rate; the same seed and threads give the same bits."""
    torch.manual_seed(seed)
    generator = Generator().manual_seed(seed)
    model = depthwise_silu().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=peak, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = epochs * -(-task.size("train") // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=steps)
    for _ in track(range(epochs), description="epochs"):
        for images, labels in task.shuffled("train", batch_size=BATCH, generator=generator):
            inputs = augmented(images, generator).contiguous(memory_format=torch.channels_last)
            loss = cross_entropy(model(inputs), labels, label_smoothing=0.1)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, task: Task) -> float:
    """Return the accuracy on the report split."""
    metric = task.meter()
    for images, labels in task.batches("report", batch_size=500):
        metric.update(model(images), labels)
    return metric.compute()


def main() -> None:
    """Train, measure, and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="cifar10:DIR")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    task = load_task(options.data)
    model = train(task, epochs=options.epochs, seed=options.seed)
    write_atomically(options.out, save({name: value.contiguous() for name, value in model.state_dict().items()}))
    print(f"accuracy {100 * accuracy(model, task):.2f} % on {task.size('report')} report images: {options.out}")


if __name__ == "__main__":
    main()

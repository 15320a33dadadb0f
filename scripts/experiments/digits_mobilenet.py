"""A MobileNet-V2 with 17 layers for 16x16 digits, and its training.

    python scripts/experiments/digits_mobilenet.py --seed 0 --out digits_mobilenet-s0.safetensors
    PYTHONPATH=scripts/experiments haq search --model digits_mobilenet:digits_mobilenet \\
        --weights digits_mobilenet-s0.safetensors
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Generator, Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

from haq.files import write_atomically
from haq.network.models.digits_cnn import InvertedResidual
from haq.tasks import load_task
from haq.tasks.base import Task

BATCH, EPOCHS, PEAK = 64, 40, 0.01
SHAPES = ((16, 1), (24, 2), (24, 1), (32, 2), (32, 1))
"""Channels and stride of every block."""


def digits_mobilenet() -> nn.Module:
    """Build the network: images [n, 1, 16, 16] to scores [n, 10], 17 layers, 5 of them depthwise, 27,280 weights."""
    blocks, c_in = [], 16
    for c_out, stride in SHAPES:
        blocks.append(InvertedResidual(c_in, c_out, stride=stride))
        c_in = c_out
    stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
    return nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c_in, 10))


def train(task: Task, *, seed: int) -> nn.Module:
    """Train by AdamW with a one-cycle learning rate on shifted images; the same seed and threads give the same bits."""
    torch.manual_seed(seed)
    generator = Generator().manual_seed(seed)
    model = digits_mobilenet()
    steps = EPOCHS * -(-task.size("train") // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, total_steps=steps)
    for _ in range(EPOCHS):
        for images, labels in task.shuffled("train", batch_size=BATCH, generator=generator):
            loss = cross_entropy(model(moved(images, generator)), labels)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    return model.eval()


def moved(images: Tensor, generator: Generator) -> Tensor:
    """Shift each image at random by up to 0.8 of a pixel in both directions."""
    shifts = 0.2 * (torch.rand(len(images), 2, generator=generator) - 0.5)
    places = torch.cat([torch.eye(2).expand(len(images), 2, 2), shifts[:, :, None]], dim=2)
    grid = affine_grid(places, list(images.shape), align_corners=False)
    return grid_sample(images, grid, align_corners=False)


def main() -> None:
    """Train and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    model = train(load_task("digits"), seed=options.seed)
    write_atomically(options.out, save(model.state_dict()))


if __name__ == "__main__":
    main()

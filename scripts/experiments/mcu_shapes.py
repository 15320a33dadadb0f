"""Layers of many shapes, on which the formula of the measured microcontroller is fitted.

    PYTHONPATH=scripts/experiments haq hardware measure --target mcu-c --model mcu_shapes:network --input 1x1x1 \\
        --out results/mcu/shapes.csv
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Conv(NamedTuple):
    """Shape of a convolution with padding of half its kernel."""

    c_in: int
    c_out: int
    side: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1


CONVS = (
    Conv(3, 32, 32, stride=2),
    Conv(8, 8, 24),
    Conv(12, 24, 12),
    Conv(24, 24, 6, stride=2),
    Conv(48, 48, 6),
    Conv(64, 32, 4),
    Conv(16, 32, 8, kernel=5),
)
POINTWISE = (
    Conv(8, 16, 24, kernel=1),
    Conv(16, 8, 16, kernel=1),
    Conv(64, 64, 8, kernel=1),
    Conv(128, 32, 4, kernel=1),
    Conv(96, 96, 6, kernel=1),
    Conv(32, 192, 6, kernel=1),
)
DEPTHWISE = (
    Conv(8, 8, 24, groups=8),
    Conv(16, 16, 12, stride=2, groups=16),
    Conv(64, 64, 8, groups=64),
    Conv(128, 128, 4, groups=128),
    Conv(32, 32, 16, kernel=5, groups=32),
    Conv(48, 48, 6, stride=2, groups=48),
)
LINEAR = ((16, 10), (64, 64), (256, 32), (512, 100), (1152, 16))


class Shapes(nn.Module):
    """All layers, each applied to zeros of its own."""

    def __init__(self) -> None:
        super().__init__()
        shapes = (*CONVS, *POINTWISE, *DEPTHWISE)
        self.convs = nn.ModuleList(
            nn.Conv2d(one.c_in, one.c_out, one.kernel, one.stride, padding=one.kernel // 2, groups=one.groups)
            for one in shapes
        )
        self.linears = nn.ModuleList(nn.Linear(c_in, c_out) for c_in, c_out in LINEAR)

    def forward(self, x: Tensor) -> Tensor:
        shapes = (*CONVS, *POINTWISE, *DEPTHWISE)
        total = x.sum(dim=(1, 2, 3))
        for shape, conv in zip(shapes, self.convs, strict=True):
            total = total + conv(x.expand(-1, shape.c_in, shape.side, shape.side)).sum(dim=(1, 2, 3))
        for (c_in, _), linear in zip(LINEAR, self.linears, strict=True):
            total = total + linear(x.flatten(1).expand(-1, c_in)).sum(dim=1)
        return torch.stack([total, -total], dim=1)


def network() -> nn.Module:
    """Build the layers with random weights."""
    return Shapes().eval()

"""MobileNets with TensorFlow's padding and published ImageNet weights.

    PYTHONPATH=scripts/experiments haq layers --model tf_mobilenets:mobilenet_v1_075 --input 3x224x224

The weights are read from HAQ_DATA. Inputs are x / 127.5 - 1: `--normalize half`. MobileNet-V2's weights were stored on
an 8-bit grid per output channel, so that 8-bit weights lose nothing by construction.
"""

import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from haq.network.models.mobilenet_v1 import STAGES

V1_WEIGHTS = "mobilenet_v1_0.75_224_imagenet_fp32.pth"
V2_WEIGHTS = "mobilenet_v2_1.0_224_imagenet_int8perchannel.npz"
V2_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks, stride (Sandler et al. 2018, table 2)."""


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME: the odd pixel goes to the bottom and the right."""

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [missing // 2, missing - missing // 2]
        return super().forward(F.pad(x, pads))


class MobileNetV1(nn.Module):
    """MobileNet-V1 of width 0.75 by default, with batch norms (eps 1e-3)."""

    def __init__(self, width: float = 0.75) -> None:
        super().__init__()
        channels = [int(width * count) for count in (32, *(count for count, _ in STAGES))]
        blocks = [
            nn.Sequential(_normed(c_in, c_in, 3, stride, groups=c_in), _normed(c_in, c_out, 1, 1))
            for c_in, c_out, (_, stride) in zip(channels, channels[1:], STAGES, strict=False)
        ]
        self.features = nn.Sequential(_normed(3, channels[0], 3, 2), *blocks)
        self.classifier = nn.Linear(channels[-1], 1000)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.classifier(self.features(x).mean(dim=(2, 3)))
        return scores


class InvertedResidual(nn.Module):
    """Inverted residual block with batch norms folded into the weights."""

    def __init__(self, c_in: int, c_out: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        wide = c_in * expansion
        self.shortcut = stride == 1 and c_in == c_out
        expand = [] if expansion == 1 else [_folded(c_in, wide, 1, 1)]
        project = nn.Sequential(SameConv2d(wide, c_out, 1))
        self.conv = nn.Sequential(*expand, _folded(wide, wide, 3, stride, groups=wide), project)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.shortcut else y


class MobileNetV2(nn.Module):
    """MobileNet-V2 of width 1 with batch norms folded into the weights."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_folded(3, 32, 3, 2)]
        channels = 32
        for expansion, c_out, count, first_stride in V2_STAGES:
            for number in range(count):
                stride = first_stride if number == 0 else 1
                layers.append(InvertedResidual(channels, c_out, expansion=expansion, stride=stride))
                channels = c_out
        self.features = nn.Sequential(*layers, _folded(channels, 1280, 1, 1))
        self.classifier = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.classifier(self.features(x).mean(dim=(2, 3)))
        return scores


def mobilenet_v1_075() -> nn.Module:
    """Load MobileNet-V1 of width 0.75 with published float weights."""
    model = MobileNetV1()
    model.load_state_dict(torch.load(_weights() / V1_WEIGHTS, weights_only=True))
    return model.eval()


def mobilenet_v2() -> nn.Module:
    """Load MobileNet-V2 with published 8-bit weights, dequantized."""
    model = MobileNetV2()
    with np.load(_weights() / V2_WEIGHTS, allow_pickle=False) as arrays:
        state = {}
        for key in arrays.files:
            name, _, part = key.rpartition(".")
            if part == "weight_q":
                codes = torch.from_numpy(arrays[key].astype(np.float32))
                along = [-1] + [1] * (codes.ndim - 1)
                scale, zero_point = (
                    torch.from_numpy(arrays[f"{name}.weight_{what}"].astype(np.float32)).reshape(along)
                    for what in ("scale", "zero_point")
                )
                state[f"{name}.weight"] = (codes - zero_point) * scale
            elif part == "bias":
                state[key] = torch.from_numpy(arrays[key])
    model.load_state_dict(state)
    return model.eval()


def _weights() -> Path:
    return Path(os.environ.get("HAQ_DATA", Path(__file__).parents[3] / "shared" / "data")) / "weights"


def _normed(c_in: int, c_out: int, kernel: int, stride: int, *, groups: int = 1) -> nn.Sequential:
    conv = SameConv2d(c_in, c_out, kernel, stride, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out, eps=1e-3), nn.ReLU6())


def _folded(c_in: int, c_out: int, kernel: int, stride: int, *, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(SameConv2d(c_in, c_out, kernel, stride, groups=groups), nn.ReLU6())

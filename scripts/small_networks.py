"""A small network with depthwise convolutions and skewed activations for 32x32 images, brought as a user would.

PYTHONPATH=scripts haq search --model small_networks:depthwise_silu --weights depthwise_silu.safetensors ...
"""

from torch import Tensor, nn


def _conv_bn(c_in: int, c_out: int, *, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(c_out)]


class _Separable(nn.Module):
    """Filter each channel, mix them, and add the input where the shape stays; SiLU after each (Howard et al. 2017)."""

    def __init__(self, c_in: int, c_out: int, *, stride: int) -> None:
        super().__init__()
        self.shortcut = stride == 1 and c_in == c_out
        self.depthwise = nn.Sequential(*_conv_bn(c_in, c_in, kernel=3, stride=stride, groups=c_in), nn.SiLU())
        self.pointwise = nn.Sequential(*_conv_bn(c_in, c_out), nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pointwise(self.depthwise(x))
        return x + y if self.shortcut else y


def depthwise_silu() -> nn.Module:
    """Images [n, 3, 32, 32] to scores [n, 10]: 18 layers with weights, eight of them depthwise, 92 k weights."""
    shapes = [(32, 1), (48, 2), (48, 1), (96, 2), (96, 1), (96, 1), (192, 2), (192, 1)]
    blocks, c_in = [], 32
    for c_out, stride in shapes:
        blocks.append(_Separable(c_in, c_out, stride=stride))
        c_in = c_out
    stem = nn.Sequential(*_conv_bn(3, 32, kernel=3), nn.SiLU())
    return nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c_in, 10))

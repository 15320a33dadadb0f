"""Embedded network: a small MobileNet-V2 for 16x16 grey images."""

from torch import Tensor, nn


def _conv_bn(c_in: int, c_out: int, *, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(c_out)]


class InvertedResidual(nn.Module):
    """Inverted residual block (Sandler et al. 2018): expansion, depthwise convolution, projection without activation.

    There is a shortcut if input and output have the same shape.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        stride: Stride of the depthwise convolution.
        expansion: Ratio of inner to input channels.
    """

    def __init__(self, c_in: int, c_out: int, *, stride: int, expansion: int = 4) -> None:
        super().__init__()
        wide = c_in * expansion
        self.shortcut = stride == 1 and c_in == c_out
        self.expand = nn.Sequential(*_conv_bn(c_in, wide), nn.ReLU6())
        self.depthwise = nn.Sequential(*_conv_bn(wide, wide, kernel=3, stride=stride, groups=wide), nn.ReLU6())
        self.project = nn.Sequential(*_conv_bn(wide, c_out))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Args:
            x: Features [n, c_in, h, w].

        Returns:
            Features [n, c_out, h / stride, w / stride].
        """
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.shortcut else y


class DigitsCNN(nn.Module):
    """Classifier of grey images with 15 weighted layers, four of them depthwise.

    Args:
        num_classes: Number of outputs.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_conv_bn(1, 16, kernel=3), nn.ReLU6())
        self.blocks = nn.Sequential(
            InvertedResidual(16, 24, stride=2),
            InvertedResidual(24, 24, stride=1),
            InvertedResidual(24, 32, stride=2),
            InvertedResidual(32, 32, stride=1),
        )
        self.head = nn.Sequential(*_conv_bn(32, 128), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(128, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the scores of all classes.

        Args:
            x: Images [n, 1, h, w] with values in [0, 1].

        Returns:
            Scores [n, num_classes].
        """
        scores: Tensor = self.classifier(self.head(self.blocks(self.stem(x))))
        return scores

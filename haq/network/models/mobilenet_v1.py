"""MobileNet-V1 (Howard et al. 2017), which torchvision lacks; with PyTorch's padding, not TensorFlow's."""

from torch import Tensor, nn

STAGES = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
"""Output channels at width 1 and stride of each depthwise-separable block (table 1 of the paper)."""


class MobileNetV1(nn.Module):
    """MobileNet-V1 for images of 224x224 pixels.

    Args:
        width: Multiplier of all channels.
        num_classes: Number of outputs.
    """

    def __init__(self, width: float = 1.0, num_classes: int = 1000) -> None:
        super().__init__()
        channels = [max(8, int(width * count)) for count in (32, *(count for count, _ in STAGES))]
        blocks = [
            nn.Sequential(_conv(c_in, c_in, kernel=3, stride=stride, groups=c_in), _conv(c_in, c_out))
            for c_in, c_out, (_, stride) in zip(channels, channels[1:], STAGES, strict=False)
        ]
        self.features = nn.Sequential(_conv(3, channels[0], kernel=3, stride=2), *blocks)
        self.classifier = nn.Linear(channels[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the scores of all classes.

        Args:
            x: Images [n, 3, 224, 224].

        Returns:
            Scores [n, num_classes].
        """
        scores: Tensor = self.classifier(self.features(x).mean(dim=(2, 3)))
        return scores


def _conv(c_in: int, c_out: int, *, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU6())

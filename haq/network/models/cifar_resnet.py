"""ResNets for 32x32 images (He et al. 2016, section 4.2): 6n + 2 layers, shortcuts without weights (option A)."""

from torch import Tensor, nn
from torch.nn.functional import pad, relu


class BasicBlock(nn.Module):
    """Residual block of two 3x3 convolutions.

    Where shapes change, the shortcut subsamples pixels by the stride and pads channels with zeros.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        stride: Stride of the first convolution.
    """

    def __init__(self, c_in: int, c_out: int, *, stride: int) -> None:
        super().__init__()
        self.stride, self.padding = stride, (c_out - c_in) // 2
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Args:
            x: Features [n, c_in, h, w].

        Returns:
            Features [n, c_out, h / stride, w / stride].
        """
        y = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        shortcut = pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return relu(y + shortcut)


class CifarResNet(nn.Module):
    """ResNet for images of 32x32 pixels.

    Args:
        depth: Number of layers: 20, 32, 44 or any other 6n + 2.
        num_classes: Number of outputs.
    """

    def __init__(self, depth: int, num_classes: int = 10) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks=blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks=blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks=blocks, stride=2)
        self.linear = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the scores of all classes.

        Args:
            x: Images [n, 3, 32, 32].

        Returns:
            Scores [n, num_classes].
        """
        features = self.layer3(self.layer2(self.layer1(relu(self.bn1(self.conv1(x))))))
        scores: Tensor = self.linear(features.mean(dim=(2, 3)))
        return scores


def _stage(c_in: int, c_out: int, *, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(c_in, c_out, stride=stride)
    return nn.Sequential(first, *(BasicBlock(c_out, c_out, stride=1) for _ in range(blocks - 1)))

"""ResNet-8 for CIFAR-10 of the benchmark MLPerf Tiny (Banbury et al. 2021), with TensorFlow's padding.

Batch norms are folded into the published weights, so that convolutions have biases. Inputs are pixels from 0 to 255.
"""

from torch import Tensor, nn
from torch.nn.functional import pad, relu

from haq.tasks.transforms import ImageTransform

PIXELS = ImageTransform(std=(1 / 255,) * 3)
"""Transform that keeps pixels as they are, from 0 to 255."""


class Block(nn.Module):
    """Residual block of two 3x3 convolutions; where shapes change, the shortcut is a 1x1 convolution.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        stride: Stride of the first convolution and of the shortcut.
    """

    def __init__(self, c_in: int, c_out: int, *, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, padding=1 if stride == 1 else 0)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.short = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Args:
            x: Features [n, c_in, h, w].

        Returns:
            Features [n, c_out, h / stride, w / stride].
        """
        # TensorFlow pads an image of even size by one pixel at stride 2, at the bottom and the right.
        padded = x if self.stride == 1 else pad(x, (0, 1, 0, 1))
        y: Tensor = self.conv2(relu(self.conv1(padded)))
        return relu(y + self.short(x))


class ResNet8(nn.Module):
    """ResNet-8 for images of 32x32 pixels.

    Args:
        num_classes: Number of outputs.
    """

    transform = PIXELS

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.b = nn.Sequential(Block(16, 16, stride=1), Block(16, 32, stride=2), Block(32, 64, stride=2))
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the scores of all classes.

        Args:
            x: Images [n, 3, 32, 32], pixels from 0 to 255.

        Returns:
            Scores [n, num_classes].
        """
        features: Tensor = self.b(relu(self.stem(x)))
        scores: Tensor = self.fc(features.mean(dim=(2, 3)))
        return scores

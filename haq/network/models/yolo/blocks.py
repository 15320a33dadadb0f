"""Building blocks of YOLOv4 (Bochkovskiy et al. 2020), with modules in the order of Darknet's files of weights."""

from collections.abc import Callable
from math import log

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "mish": nn.Mish,
    "leaky": lambda: nn.LeakyReLU(0.1),
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "swish": nn.SiLU,
    "logistic": nn.Sigmoid,
    "linear": nn.Identity,
}
"""Activations by Darknet's names."""
PRIOR = 0.01
"""Probability of an object at each anchor before training, as for RetinaNet (Lin et al. 2017, section 4.1)."""
SPP_KERNELS = (13, 9, 5)
"""Windows of the spatial pyramid pooling of YOLOv4, pixels, in the order of the channels of its output."""


def require_sides(images: Tensor, stride: int) -> None:
    """Require that the sides of images are multiples of a stride; heads of other images do not lie above each other.

    Args:
        images: Images [n, c, h, w].
        stride: Largest stride of a network, pixels.

    Raises:
        ValueError: A side is none.

    Examples:
        >>> require_sides(torch.zeros(1, 3, 300, 320), 32)
        Traceback (most recent call last):
        ValueError: images of 300x320 pixels: both sides must be multiples of 32, such as 288 or 320 instead of 300
    """
    sides = images.shape[-2:]
    wrong = next((side for side in sides if side % stride or not side), None)
    if wrong is not None:
        nearest = " or ".join(f"{side}" for side in (wrong // stride * stride, (wrong // stride + 1) * stride) if side)
        raise ValueError(
            f"images of {sides[0]}x{sides[1]} pixels: both sides must be multiples of {stride}, "
            f"such as {nearest} instead of {wrong}"
        )


class Convolution(nn.Module):
    """Convolution, batch norm and activation, Darknet's `[convolutional]`.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        kernel: Size of the window, pixels.
        stride: Stride, pixels.
        padding: Zeros at each border, pixels; half the kernel if None.
        groups: Groups of channels.
        norm: Whether a batch norm follows; otherwise the convolution has a bias.
        activation: Name in `ACTIVATIONS`.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        norm: bool = True,
        activation: str = "leaky",
    ) -> None:
        super().__init__()
        padding = kernel // 2 if padding is None else padding
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, padding, groups=groups, bias=not norm)
        self.norm = nn.BatchNorm2d(c_out) if norm else None
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Args:
            x: Features [n, c_in, h, w].

        Returns:
            Features [n, c_out, h / stride, w / stride].
        """
        y = self.conv(x)
        activated: Tensor = self.activation(y if self.norm is None else self.norm(y))
        return activated


class Residual(nn.Module):
    """A 1x1 and a 3x3 convolution with a shortcut.

    Args:
        channels: Input and output channels.
        hidden: Channels between the convolutions.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.reduce = Convolution(channels, hidden, activation="mish")
        self.expand = Convolution(hidden, channels, 3, activation="mish")

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Args:
            x: Features [n, channels, h, w].

        Returns:
            Features of the same shape.
        """
        added: Tensor = self.expand(self.reduce(x)) + x
        return added


class CspStage(nn.Module):
    """Stage of CSPDarknet53: halves the size, and passes only one of two branches through residual blocks.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        blocks: Number of residual blocks.
        branch: Channels of each branch.
    """

    def __init__(self, c_in: int, c_out: int, *, blocks: int, branch: int) -> None:
        super().__init__()
        self.down = Convolution(c_in, c_out, 3, stride=2, activation="mish")
        self.direct = Convolution(c_out, branch, activation="mish")
        self.split = Convolution(c_out, branch, activation="mish")
        self.blocks = nn.Sequential(*(Residual(branch, c_out // 2) for _ in range(blocks)))
        self.transition = Convolution(branch, branch, activation="mish")
        self.merge = Convolution(2 * branch, c_out, activation="mish")

    def forward(self, x: Tensor) -> Tensor:
        """Apply the stage.

        Args:
            x: Features [n, c_in, h, w].

        Returns:
            Features [n, c_out, h / 2, w / 2].
        """
        y = self.down(x)
        direct = self.direct(y)
        processed = self.transition(self.blocks(self.split(y)))
        merged: Tensor = self.merge(torch.cat((processed, direct), dim=1))
        return merged


class SpatialPyramidPooling(nn.Module):
    """Maxima over windows of several sizes, concatenated with the input."""

    def __init__(self) -> None:
        super().__init__()
        self.pools = nn.ModuleList(nn.MaxPool2d(kernel, 1, kernel // 2) for kernel in SPP_KERNELS)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the pooling.

        Args:
            x: Features [n, c, h, w].

        Returns:
            Features [n, 4 c, h, w].
        """
        return torch.cat([*(pool(x) for pool in self.pools), x], dim=1)


def alternating(c_in: int, channels: int, count: int) -> nn.Sequential:
    """Build convolutions whose kernels alternate between 1x1 and 3x3.

    Args:
        c_in: Input channels.
        channels: Output channels of the 1x1 convolutions; the 3x3 convolutions have twice as many.
        count: Number of convolutions.

    Returns:
        The convolutions.
    """
    sizes = [channels if place % 2 == 0 else 2 * channels for place in range(count)]
    inputs = [c_in, *sizes[:-1]]
    return nn.Sequential(
        *(
            Convolution(before, after, 1 if after == channels else 3)
            for before, after in zip(inputs, sizes, strict=True)
        )
    )


def output_head(c_in: int, channels: int, *, anchors: int, num_classes: int) -> nn.Sequential:
    """Build a head: a 3x3 convolution, and a 1x1 convolution whose raw outputs are those of the network.

    Args:
        c_in: Input channels.
        channels: Channels between the convolutions.
        anchors: Number of anchors of each position.
        num_classes: Number of classes.

    Returns:
        The head; an untrained one finds few objects.
    """
    last = Convolution(channels, anchors * (5 + num_classes), norm=False, activation="linear")
    init_prior_bias(last, anchors=anchors)
    return nn.Sequential(Convolution(c_in, channels, 3), last)


def init_prior_bias(layer: Convolution, *, anchors: int) -> None:
    """Set the bias of a head's last layer to the logit of `PRIOR`, so that an untrained network finds few objects.

    Args:
        layer: Last layer of a head, with anchors * (5 + classes) output channels, which is changed.
        anchors: Number of anchors of each position.
    """
    assert layer.conv.bias is not None
    with torch.no_grad():
        biases = layer.conv.bias.view(anchors, -1)
        biases.zero_()
        biases[:, 4:] = log(PRIOR / (1 - PRIOR))

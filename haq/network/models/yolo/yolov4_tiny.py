"""YOLOv4-tiny (Wang et al. 2021): partial cross-stage blocks, two heads."""

import torch
from torch import Tensor, nn

from haq.network.models.yolo.blocks import Convolution, output_head, require_sides
from haq.network.models.yolo.heads import Anchors, YoloHead, YoloHeads

ANCHORS: tuple[Anchors, ...] = (
    ((81, 82), (135, 169), (344, 319)),
    ((23, 27), (37, 58), (81, 82)),
)
"""Width and height of the anchors of each head, pixels; one is used by both heads."""
STRIDES = (32, 16)
SCALE = 1.05
"""Scale of the offsets of the centre (`scale_x_y`)."""


class PartialBlock(nn.Module):
    """Block whose second half of channels passes through two more convolutions.

    Args:
        channels: Input channels; the output has twice as many.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.first = Convolution(channels, channels, 3)
        self.second = Convolution(half, half, 3)
        self.third = Convolution(half, half, 3)
        self.merge = Convolution(channels, channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the block.

        Args:
            x: Features [n, channels, h, w].

        Returns:
            Output [n, 2 channels, h, w], and its second half, which a head may read.
        """
        first = self.first(x)
        second = self.second(first.chunk(2, dim=1)[1])
        merged = self.merge(torch.cat((self.third(second), second), dim=1))
        return torch.cat((first, merged), dim=1), merged


class YoloV4Tiny(nn.Module):
    """YOLOv4-tiny for images of RGB values in [0, 1] whose sides are multiples of 32 pixels.

    It has 21 convolutions. At width 1 and with 80 classes it has 6.1 million weights.

    Args:
        width: Multiplier of all channels but those of the outputs.
        num_classes: Number of classes.
    """

    input_size = (416, 416)

    def __init__(self, width: float = 1.0, num_classes: int = 80) -> None:
        super().__init__()
        base = max(4, 4 * round(width * 32 / 4))
        self.stem = nn.Sequential(Convolution(3, base, 3, stride=2), Convolution(base, 2 * base, 3, stride=2))
        self.blocks = nn.ModuleList(PartialBlock(channels * base) for channels in (2, 4, 8))
        self.pool = nn.MaxPool2d(2, 2)
        self.last = Convolution(16 * base, 16 * base, 3)
        self.neck = Convolution(16 * base, 8 * base)
        sizes = {"anchors": len(ANCHORS[0]), "num_classes": num_classes}
        self.head_large = output_head(8 * base, 16 * base, **sizes)
        self.reduce = Convolution(8 * base, 4 * base)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.head_medium = output_head(12 * base, 8 * base, **sizes)
        heads = (YoloHead(anchors, stride, SCALE) for anchors, stride in zip(ANCHORS, STRIDES, strict=True))
        self.detection = YoloHeads(tuple(heads), num_classes=num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the raw outputs of the heads.

        Args:
            x: Images [n, 3, h, w].

        Returns:
            Outputs [n, 3 * (5 + num_classes), h / s, w / s] at the strides s of 32 and 16.

        Raises:
            ValueError: A side is no multiple of 32 pixels.
        """
        require_sides(x, max(STRIDES))
        x = self.stem(x)
        for block in self.blocks:
            x, route = block(x)
            x = self.pool(x)
        neck = self.neck(self.last(x))
        raised = self.upsample(self.reduce(neck))
        return self.head_large(neck), self.head_medium(torch.cat((raised, route), dim=1))

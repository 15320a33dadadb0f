"""YOLOv4 (Bochkovskiy et al. 2020): CSPDarknet53, spatial pyramid pooling, PANet, three heads."""

import torch
from torch import Tensor, nn

from haq.network.models.yolo.blocks import (
    Convolution,
    CspStage,
    SpatialPyramidPooling,
    alternating,
    output_head,
    require_sides,
)
from haq.network.models.yolo.heads import Anchors, YoloHead, YoloHeads

BLOCKS = (1, 2, 8, 8, 4)
"""Number of residual blocks of each stage of CSPDarknet53."""
ANCHORS: tuple[Anchors, ...] = (
    ((12, 16), (19, 36), (40, 28)),
    ((36, 75), (76, 55), (72, 146)),
    ((142, 110), (192, 243), (459, 401)),
)
"""Width and height of the anchors of each head, pixels."""
SCALES = (1.2, 1.1, 1.05)
"""Scale of the offsets of the centre in each head (`scale_x_y`)."""
STRIDES = (8, 16, 32)


class CspDarknet53(nn.Module):
    """Backbone of YOLOv4.

    Args:
        base: Channels of the first convolution; each stage has twice as many as the one before.
    """

    def __init__(self, base: int) -> None:
        super().__init__()
        self.stem = Convolution(3, base, 3, activation="mish")
        stages = []
        for place, blocks in enumerate(BLOCKS):
            c_in = base * 2**place
            stages.append(CspStage(c_in, 2 * c_in, blocks=blocks, branch=2 * c_in if place == 0 else c_in))
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the features that the neck reads.

        Args:
            x: Images [n, 3, h, w].

        Returns:
            Features at strides 8, 16 and 32.
        """
        found = [self.stem(x)]
        for stage in self.stages:
            found.append(stage(found[-1]))
        return found[3], found[4], found[5]


class UpwardStep(nn.Module):
    """Step of PANet that adds the features of a coarser map to a finer one of the backbone.

    Args:
        c_coarse: Channels of the coarser map.
        c_fine: Channels of the finer map.
        channels: Output channels.
    """

    def __init__(self, c_coarse: int, c_fine: int, channels: int) -> None:
        super().__init__()
        self.reduce = Convolution(c_coarse, channels)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.lateral = Convolution(c_fine, channels)
        self.convolutions = alternating(2 * channels, channels, 5)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Apply the step.

        Args:
            coarse: Features [n, c_coarse, h, w].
            fine: Features [n, c_fine, 2 h, 2 w].

        Returns:
            Features [n, channels, 2 h, 2 w].
        """
        raised = self.upsample(self.reduce(coarse))
        merged: Tensor = self.convolutions(torch.cat((self.lateral(fine), raised), dim=1))
        return merged


class DownwardStep(nn.Module):
    """Step of PANet that adds the features of a finer map to a coarser one.

    Args:
        channels: Channels of the finer map; the coarser one has twice as many.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = Convolution(channels, 2 * channels, 3, stride=2)
        self.convolutions = alternating(4 * channels, 2 * channels, 5)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Apply the step.

        Args:
            fine: Features [n, channels, 2 h, 2 w].
            coarse: Features [n, 2 channels, h, w].

        Returns:
            Features [n, 2 channels, h, w].
        """
        merged: Tensor = self.convolutions(torch.cat((self.down(fine), coarse), dim=1))
        return merged


class YoloV4(nn.Module):
    """YOLOv4 for images of RGB values in [0, 1] whose sides are multiples of 32 pixels.

    It has 110 convolutions. At width 1 and with 80 classes it has 64.3 million weights.

    Args:
        width: Multiplier of all channels but those of the outputs.
        num_classes: Number of classes.
    """

    input_size = (608, 608)

    def __init__(self, width: float = 1.0, num_classes: int = 80) -> None:
        super().__init__()
        base = max(1, round(32 * width))
        small, medium, large = 8 * base, 16 * base, 32 * base
        self.backbone = CspDarknet53(base)
        self.pyramid = nn.Sequential(alternating(large, large // 2, 3), SpatialPyramidPooling())
        self.bottom = alternating(2 * large, large // 2, 3)
        self.up_medium = UpwardStep(large // 2, medium, medium // 2)
        self.up_small = UpwardStep(medium // 2, small, small // 2)
        sizes = {"anchors": len(ANCHORS[0]), "num_classes": num_classes}
        self.head_small = output_head(small // 2, small, **sizes)
        self.down_medium = DownwardStep(small // 2)
        self.head_medium = output_head(small, 2 * small, **sizes)
        self.down_large = DownwardStep(small)
        self.head_large = output_head(2 * small, 4 * small, **sizes)
        self.detection = YoloHeads(tuple(map(YoloHead, ANCHORS, STRIDES, SCALES)), num_classes=num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the raw outputs of the heads.

        Args:
            x: Images [n, 3, h, w].

        Returns:
            Outputs [n, 3 * (5 + num_classes), h / s, w / s] at the strides s of 8, 16 and 32.

        Raises:
            ValueError: A side is no multiple of 32 pixels.
        """
        require_sides(x, STRIDES[-1])
        small, medium, large = self.backbone(x)
        bottom = self.bottom(self.pyramid(large))
        middle = self.up_medium(bottom, medium)
        top = self.up_small(middle, small)
        middle = self.down_medium(top, middle)
        return self.head_small(top), self.head_medium(middle), self.head_large(self.down_large(middle, bottom))

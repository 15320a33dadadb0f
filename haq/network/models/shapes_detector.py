"""Embedded detector: inverted residuals with depthwise convolutions and SiLU, one YOLO head."""

from torch import Tensor, nn

from haq.network.models.suppression import Thresholds
from haq.network.models.yolo.blocks import Convolution, init_prior_bias
from haq.network.models.yolo.heads import YoloHead, YoloHeads

ANCHORS = ((13.0, 13.0), (23.0, 23.0))
"""Width and height of the anchors, pixels."""
STRIDE = 8
THRESHOLDS = Thresholds(score=0.01, overlap=0.5, candidates=256, detections=50)


class InvertedResidual(nn.Module):
    """Inverted residual block (Sandler et al. 2018) with SiLU, whose outputs are not zero-mean.

    There is a shortcut if input and output have the same shape.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        stride: Stride of the depthwise convolution.
        expansion: Ratio of inner to input channels.
    """

    def __init__(self, c_in: int, c_out: int, *, stride: int = 1, expansion: int = 3) -> None:
        super().__init__()
        wide = c_in * expansion
        self.shortcut = stride == 1 and c_in == c_out
        self.expand = Convolution(c_in, wide, activation="swish")
        self.depthwise = Convolution(wide, wide, 3, stride=stride, groups=wide, activation="swish")
        self.project = Convolution(wide, c_out, activation="linear")

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Args:
            x: Features [n, c_in, h, w].

        Returns:
            Features [n, c_out, h / stride, w / stride].
        """
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.shortcut else y


class ShapesDetector(nn.Module):
    """Detector for small colour images with 16 convolutions, five of them depthwise.

    Args:
        num_classes: Number of classes.
    """

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        outputs = len(ANCHORS) * (5 + num_classes)
        self.stem = Convolution(3, 12, 3, stride=2, activation="swish")
        self.blocks = nn.Sequential(
            InvertedResidual(12, 24, stride=2),
            InvertedResidual(24, 24),
            InvertedResidual(24, 40, stride=2),
            InvertedResidual(40, 40),
        )
        last = Convolution(64, outputs, norm=False, activation="linear")
        init_prior_bias(last, anchors=len(ANCHORS))
        self.head = nn.Sequential(
            Convolution(40, 64, activation="swish"),
            Convolution(64, 64, 3, groups=64, activation="swish"),
            last,
        )
        self.detection = YoloHeads((YoloHead(ANCHORS, STRIDE, 1.1),), num_classes=num_classes, thresholds=THRESHOLDS)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Compute the raw outputs of the head.

        Args:
            x: Images [n, 3, h, w] with values in [0, 1].

        Returns:
            One output [n, 2 * (5 + num_classes), h / 8, w / 8].
        """
        return (self.head(self.blocks(self.stem(x))),)

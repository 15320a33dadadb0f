"""Meaning of the raw outputs of YOLO heads: boxes, objectness and classes at each anchor of each position."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from haq.execution.structures import Structure
from haq.network.models.suppression import Thresholds, suppressed
from haq.network.models.yolo.loss import LossSettings, Predictions, yolo_loss
from haq.tasks.detection.outputs import Detections, GroundTruth, OutputPart

Anchors = tuple[tuple[float, float], ...]
"""Widths and heights of the anchors of a head, pixels."""
MAX_LOG_SIZE = 8.0
"""Limit of the logarithm of a box's size in anchors, so that sizes are finite and greater than 0."""


@dataclass(frozen=True, slots=True)
class YoloHead:
    """Head of a YOLO detector.

    The raw outputs of an anchor are x, y, width, height, objectness and the logits of the classes.

    Attributes:
        anchors: Widths and heights of its anchors, pixels.
        stride: Distance of its positions, pixels.
        scale_xy: Factor that widens the range of the offsets of the centre around the middle of the cell.
    """

    anchors: Anchors
    stride: int
    scale_xy: float = 1.0

    def values(self, output: Tensor) -> Tensor:
        """Order raw outputs by position.

        Args:
            output: Raw output of the head, [n, anchors * (5 + classes), h, w].

        Returns:
            Raw values of each anchor, [n, anchors * h * w, 5 + classes].
        """
        count, channels, height, width = output.shape
        split = output.reshape(count, len(self.anchors), channels // len(self.anchors), height, width)
        return split.permute(0, 1, 3, 4, 2).flatten(1, 3)

    def boxes(self, raw: Tensor, size: torch.Size) -> Tensor:
        """Decode boxes: the centre from a sigmoid in its cell, the size from an exponential of the anchor's.

        Args:
            raw: Raw coordinates [n, anchors * h * w, 4].
            size: Height and width of the head's output, positions.

        Returns:
            Corners (x1, y1, x2, y2) in pixels, of the same shape.
        """
        cells, anchors = (each.to(raw) for each in self.grid(size))
        offsets = self.scale_xy * (raw[..., :2].sigmoid() - 0.5) + 0.5
        centres = cells[:, :2] + offsets * self.stride
        half = anchors * raw[..., 2:].clamp(-MAX_LOG_SIZE, MAX_LOG_SIZE).exp() / 2
        return torch.cat((centres - half, centres + half), dim=-1)

    def grid(self, size: torch.Size) -> tuple[Tensor, Tensor]:
        """Return the cell and the anchor of each position.

        Args:
            size: Height and width of the head's output, positions.

        Returns:
            Corners of cells [anchors * h * w, 4], and widths and heights of anchors [anchors * h * w, 2], in pixels.
        """
        rows, columns = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
        corners = torch.stack((columns, rows, columns + 1, rows + 1), dim=-1).reshape(-1, 4) * self.stride
        anchors = torch.tensor(self.anchors).repeat_interleave(size.numel(), dim=0)
        return corners.repeat(len(self.anchors), 1), anchors


@dataclass(frozen=True, slots=True)
class YoloHeads:
    """Heads of a YOLO detector, a `DetectionHeads`.

    Attributes:
        heads: The heads, in the order of the network's outputs.
        num_classes: Number of classes.
        thresholds: Which boxes are reported.
        settings: Weights and thresholds of the loss.
    """

    heads: tuple[YoloHead, ...]
    num_classes: int
    thresholds: Thresholds = field(default_factory=Thresholds)
    settings: LossSettings = field(default_factory=LossSettings)

    def detect(self, outputs: Structure) -> list[Detections]:
        """Decode raw outputs to boxes and suppress those that overlap a better one; see `DetectionHeads.detect`.

        The score of a class is objectness times the probability of the class.

        Args:
            outputs: Raw outputs of the heads.

        Returns:
            Detections of each image.
        """
        with torch.no_grad():
            found = self.predictions(outputs)
            scores = found.objectness.sigmoid()[..., None] * found.classes.sigmoid()
            return [suppressed(*each, thresholds=self.thresholds) for each in zip(found.boxes, scores, strict=True)]

    def loss(self, outputs: Structure, targets: Sequence[GroundTruth]) -> Tensor:
        """Compute the training loss; see `DetectionHeads.loss` and `yolo_loss`.

        Args:
            outputs: Raw outputs of the heads.
            targets: Annotated objects of each image.

        Returns:
            The loss, [].
        """
        return yolo_loss(self.predictions(outputs), targets, self.settings)

    def parts(self, outputs: Structure) -> tuple[OutputPart, ...]:
        """Split raw outputs into boxes, objectness and classes of each head; see `DetectionHeads.parts`.

        Args:
            outputs: Raw outputs of the heads.

        Returns:
            The parts.
        """
        found = []
        for head, output in zip(self.heads, outputs, strict=True):
            values = head.values(output)
            found.append(OutputPart("box", values[..., :4]))
            found.append(OutputPart("objectness", values[..., 4:5]))
            found.append(OutputPart("class", values[..., 5:]))
        return tuple(found)

    def predictions(self, outputs: Structure) -> Predictions:
        """Decode boxes, and join the heads.

        Args:
            outputs: Raw outputs of the heads, a tensor [n, anchors * (5 + classes), h, w] for each.

        Returns:
            Predictions at the anchors of all heads.
        """
        values = [head.values(output.float()) for head, output in zip(self.heads, outputs, strict=True)]
        sizes = [output.shape[2:] for output in outputs]
        boxes = [head.boxes(raw[..., :4], size) for head, raw, size in zip(self.heads, values, sizes, strict=True)]
        cells, anchors = zip(*(head.grid(size) for head, size in zip(self.heads, sizes, strict=True)), strict=True)
        joined = torch.cat(values, dim=1)
        return Predictions(
            boxes=torch.cat(boxes, dim=1),
            objectness=joined[..., 4],
            classes=joined[..., 5:],
            anchors=torch.cat(anchors).to(joined),
            cells=torch.cat(cells).to(joined),
        )

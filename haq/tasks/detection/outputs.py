"""Boxes of images, and the protocol that turns the raw outputs of a detector's heads into boxes, a loss and a distance.

A detector returns the raw outputs of its heads, in training and in evaluation mode. It offers an attribute `detection`,
a `DetectionHeads`, which holds anchors, strides and thresholds but no parameters. Images in files are resized to its
attribute `input_size`, height and width in pixels, if it has one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from haq.execution.structures import Structure

PartKind = Literal["box", "objectness", "class"]


class GroundTruth(NamedTuple):
    """Annotated objects of one image.

    Attributes:
        boxes: Corners (x1, y1, x2, y2) in pixels of the network's input, float32 [objects, 4].
        labels: Class of each object, from 0, int64 [objects].
        crowd: Whether a box covers a group of objects, bool [objects]; such boxes are neither required nor penalized.
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor

    @property
    def required(self) -> Tensor:
        """Which objects must be detected, bool [objects]: all but crowds and boxes without an area."""
        return ~self.crowd & (self.boxes[:, 2:] > self.boxes[:, :2]).all(dim=1)


class Detections(NamedTuple):
    """Detected objects of one image, in descending order of the score.

    Attributes:
        boxes: Corners (x1, y1, x2, y2) in pixels of the network's input, float32 [objects, 4].
        labels: Class of each object, from 0, int64 [objects].
        scores: Confidence of each object in [0, 1], float32 [objects].
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class OutputPart:
    """Raw outputs of one kind, of one or all heads.

    Attributes:
        kind: `box` for coordinates before any activation; `objectness` and `class` for logits.
        values: Values, [n, positions, channels]; logits of a position's classes, or its four coordinates.
    """

    kind: PartKind
    values: Tensor


@runtime_checkable
class DetectionHeads(Protocol):
    """Meaning of the raw outputs of a detector."""

    @property
    def num_classes(self) -> int:
        """Number of classes that the heads tell apart, without the background."""
        ...

    def detect(self, outputs: Structure) -> list[Detections]:
        """Decode raw outputs to boxes and suppress those that overlap a better one.

        Args:
            outputs: Raw outputs for n images.

        Returns:
            Detections of each image.
        """
        ...

    def loss(self, outputs: Structure, targets: Sequence[GroundTruth]) -> Tensor:
        """Compute the training loss.

        Args:
            outputs: Raw outputs for n images, with gradient.
            targets: Annotated objects of each image, on the same device.

        Returns:
            The mean over the images, []; also where no image has an object.
        """
        ...

    def parts(self, outputs: Structure) -> Sequence[OutputPart]:
        """Split raw outputs into boxes, objectness and classes.

        Args:
            outputs: Raw outputs for n images.

        Returns:
            The parts, in a fixed order; each value occurs once.
        """
        ...

"""Anchors of SSD and Faster R-CNN: their boxes, offsets from them, and the objects that they are trained for."""

from dataclasses import dataclass
from math import log
from typing import Any, NamedTuple

import torch
from torch import Tensor

from haq.network.models.suppression import Thresholds
from haq.tasks.detection.outputs import GroundTruth

WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Units of the offsets of centres and of the logarithms of sizes: 1/10 and 1/5."""
MAX_LOG_SIZE = log(1000 / 16)
"""Limit of the logarithm of a box's size in anchors."""
FEWEST_NEGATIVES = 16
"""Number of hard negatives of an image with few objects or none."""


class Matches(NamedTuple):
    """Matches of anchors with the objects of an image that are required.

    Attributes:
        numbers: Number of the object of each anchor, -1 for background and -2 for ignored anchors, int64 [positions].
        boxes: Corners of the objects in pixels, [objects, 4].
        labels: Classes of the objects, int64 [objects].
    """

    numbers: Tensor
    boxes: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class AnchoredHeads:
    """What the heads of SSD and Faster R-CNN have in common.

    Attributes:
        anchors: Corners of the anchors in pixels, [anchors, 4].
        columns: Column of the logits for each class; the first column is the background.
        side: Width and height of images, pixels.
        thresholds: Which boxes are reported.
    """

    anchors: Tensor
    columns: tuple[int, ...]
    side: int
    thresholds: Thresholds

    @property
    def num_classes(self) -> int:
        """Number of classes without the background."""
        return len(self.columns)

    def wanted_columns(self, matches: Matches) -> Tensor:
        """Return the column that each anchor, or proposal, should have the greatest logit in.

        Args:
            matches: Matches with the objects of an image.

        Returns:
            The columns, int64 [positions]; 0, the background, where there is no object.
        """
        chosen, wanted = matches.numbers >= 0, torch.zeros_like(matches.numbers)
        wanted[chosen] = torch.tensor(self.columns, device=wanted.device)[matches.labels[matches.numbers[chosen]]]
        return wanted


def anchors_of(model: Any, generator: Any, side: int) -> tuple[list[int], Tensor]:
    """Return the anchors of a detector.

    Args:
        model: Detector of torchvision.
        generator: Its generator of anchors.
        side: Width and height of images, pixels.

    Returns:
        Number of anchors of each feature map, and the corners of all anchors in pixels, [anchors, 4].
    """
    from torchvision.models.detection.image_list import ImageList

    images = torch.zeros(1, 3, side, side)
    was_training = model.training
    with torch.no_grad():
        features = list(model.eval().backbone(images).values())
        (anchors,) = generator(ImageList(images, [(side, side)]), features)
    model.train(was_training)
    counts = generator.num_anchors_per_location()
    return [each[0, 0].numel() * count for each, count in zip(features, counts, strict=True)], anchors


def decoded(offsets: Tensor, anchors: Tensor, weights: tuple[float, ...] = WEIGHTS) -> Tensor:
    """Decode boxes.

    Args:
        offsets: Offsets of the centre in sizes of the anchor, and logarithms of sizes in anchors, [..., 4].
        anchors: Corners of anchors in pixels, [..., 4].
        weights: Factors of the offsets.

    Returns:
        Corners (x1, y1, x2, y2) in pixels, [..., 4].
    """
    sizes = anchors[..., 2:] - anchors[..., :2]
    scaled = offsets / offsets.new_tensor(weights)
    centres = anchors[..., :2] + (0.5 + scaled[..., :2]) * sizes
    half = sizes * scaled[..., 2:].clamp(max=MAX_LOG_SIZE).exp() / 2
    return torch.cat((centres - half, centres + half), dim=-1)


def encoded(boxes: Tensor, anchors: Tensor, weights: tuple[float, ...] = WEIGHTS) -> Tensor:
    """Encode boxes; the inverse of `decoded`.

    Args:
        boxes: Corners of boxes in pixels, [n, 4].
        anchors: Corners of anchors in pixels, [n, 4].
        weights: Factors of the offsets.

    Returns:
        Offsets [n, 4].

    Examples:
        >>> anchor = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
        >>> encoded(torch.tensor([[5.0, 0.0, 15.0, 20.0]]), anchor).tolist()
        [[5.0, 0.0, 0.0, 0.0]]
    """
    sizes = anchors[:, 2:] - anchors[:, :2]
    shifts = (boxes[:, :2] + boxes[:, 2:] - anchors[:, :2] - anchors[:, 2:]) / 2 / sizes
    scales = ((boxes[:, 2:] - boxes[:, :2]) / sizes).log()
    return torch.cat((shifts, scales), dim=1) * boxes.new_tensor(weights)


def clipped(boxes: Tensor, side: int) -> Tensor:
    """Clip boxes to a square image.

    Args:
        boxes: Corners in pixels, [..., 4].
        side: Width and height of the image, pixels.

    Returns:
        The boxes.
    """
    return boxes.clamp(0, side)


def matched(anchors: Tensor, target: GroundTruth, *, positive: float, negative: float, force: bool = True) -> Matches:
    """Match anchors with objects.

    Args:
        anchors: Corners in pixels, [positions, 4].
        target: Annotated objects.
        positive: IoU with an object from which an anchor is matched with it.
        negative: IoU below which an anchor is background; between both it is ignored.
        force: Whether each object is matched with its best anchor in any case.

    Returns:
        The matches.
    """
    from torchvision.ops import box_iou

    required = target.required
    found = torch.full((len(anchors),), -1, device=anchors.device)
    if len(target.boxes):
        overlap = box_iou(anchors, target.boxes)
        on_crowd = target.crowd & (overlap >= negative)
        found[on_crowd.any(dim=1)] = -2
    if required.any():
        overlap = overlap[:, required]
        best, number = overlap.max(dim=1)
        found[best >= negative] = -2
        found = torch.where(best >= positive, number, found)
        if force:
            found[overlap.argmax(dim=0)] = torch.arange(int(required.sum()), device=found.device)
    return Matches(found, target.boxes[required], target.labels[required])


def hard_negatives(losses: Tensor, is_background: Tensor, *, positives: int) -> Tensor:
    """Select the background positions of greatest loss, three for each object (Liu et al. 2016, section 2.2).

    Args:
        losses: Loss of each position, [positions].
        is_background: Whether a position is background, bool [positions].
        positives: Number of positions that are objects.

    Returns:
        Losses of the selected positions.
    """
    candidates = losses[is_background]
    return candidates.topk(min(len(candidates), max(3 * positives, FEWEST_NEGATIVES))).values

"""Loss of YOLO heads: complete IoU of the boxes, binary cross-entropy of objectness and classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from haq.tasks.detection.outputs import GroundTruth


@dataclass(frozen=True, slots=True)
class LossSettings:
    """Weights and thresholds of the loss of YOLO heads.

    Attributes:
        ignore_iou: IoU with an object from which an anchor that is not assigned need not report the background.
        assign_iou: IoU of shapes above which an anchor is assigned to an object; the best anchor always is.
        box: Weight of the loss of boxes.
        objectness: Weight of the loss of objectness.
        classes: Weight of the loss of classes.
    """

    ignore_iou: float = 0.7
    assign_iou: float = 0.213
    box: float = 2.0
    objectness: float = 1.0
    classes: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Decoded outputs of all heads for n images.

    Attributes:
        boxes: Corners (x1, y1, x2, y2) in pixels, [n, positions, 4].
        objectness: Logits [n, positions].
        classes: Logits [n, positions, classes].
        anchors: Width and height of the anchor of each position, pixels, [positions, 2].
        cells: Corners of the cell of each position, pixels, [positions, 4].
    """

    boxes: Tensor
    objectness: Tensor
    classes: Tensor
    anchors: Tensor
    cells: Tensor


def yolo_loss(found: Predictions, targets: Sequence[GroundTruth], settings: LossSettings) -> Tensor:
    """Compute the loss of YOLO heads (Bochkovskiy et al. 2020).

    Each object is assigned to anchors of the cells that its centre is in: to the anchor of most similar shape, and to
    all above a threshold. Losses of boxes and classes are summed over the assignments, that of objectness over all
    positions; the sum is divided by the number of assignments, or of images if that is greater.

    Args:
        found: Decoded outputs for n images.
        targets: Annotated objects of each image.
        settings: Weights and thresholds.

    Returns:
        The loss, [].
    """
    from torchvision.ops import complete_box_iou_loss

    truth, labels, images = _required(targets)
    objects, positions = assignments(truth, found, threshold=settings.assign_iou)
    places = images[objects] * len(found.cells) + positions  # in all images together
    boxes, classes = found.boxes.flatten(0, 1), found.classes.flatten(0, 1)
    box_loss = complete_box_iou_loss(boxes[places], truth[objects], reduction="sum")
    wanted = torch.zeros_like(found.objectness).flatten()
    wanted[places] = 1
    counted = ~_ignored(found.boxes.detach(), targets, threshold=settings.ignore_iou).flatten()
    counted[places] = True
    logits = found.objectness.flatten()
    objectness_loss = F.binary_cross_entropy_with_logits(logits, wanted, weight=counted.to(logits), reduction="sum")
    # Objects that share a position are all its classes.
    all_labels = torch.zeros_like(classes)
    all_labels[places, labels[objects]] = 1
    chosen = wanted.nonzero()[:, 0]
    class_loss = F.binary_cross_entropy_with_logits(classes[chosen], all_labels[chosen], reduction="sum")
    loss: Tensor = settings.box * box_loss + settings.objectness * objectness_loss + settings.classes * class_loss
    return loss / max(len(places), len(targets))


def assignments(truth: Tensor, found: Predictions, *, threshold: float) -> tuple[Tensor, Tensor]:
    """Assign objects to anchors.

    Args:
        truth: Boxes of objects, corners in pixels, [objects, 4].
        found: Decoded outputs.
        threshold: IoU of shapes above which an anchor is assigned.

    Returns:
        Numbers of the objects and of the positions, int64 [assignments] each.
    """
    centres = (truth[:, None, :2] + truth[:, None, 2:]) / 2
    inside = ((centres >= found.cells[:, :2]) & (centres < found.cells[:, 2:])).all(dim=-1)
    similarity = shape_iou(truth[:, 2:] - truth[:, :2], found.anchors)
    similarity = torch.where(inside, similarity, similarity.new_tensor(-1.0))
    best = F.one_hot(similarity.argmax(dim=1), len(found.anchors)).bool()
    chosen = inside & (best | (similarity > threshold))
    objects, positions = chosen.nonzero(as_tuple=True)
    return objects, positions


def shape_iou(sizes: Tensor, anchors: Tensor) -> Tensor:
    """Compute the IoU of boxes and anchors with the same centre.

    Args:
        sizes: Widths and heights of boxes, [objects, 2].
        anchors: Widths and heights of anchors, [positions, 2].

    Returns:
        IoU [objects, positions].

    Examples:
        >>> shape_iou(torch.tensor([[2.0, 4.0]]), torch.tensor([[4.0, 2.0], [2.0, 4.0]])).tolist()
        [[0.3333333432674408, 1.0]]
    """
    common = torch.minimum(sizes[:, None], anchors).prod(dim=-1)
    return common / (sizes.prod(dim=-1)[:, None] + anchors.prod(dim=-1) - common)


def _required(targets: Sequence[GroundTruth]) -> tuple[Tensor, Tensor, Tensor]:
    """Return boxes [objects, 4], labels and images [objects] of the objects that must be detected."""
    boxes, labels = (torch.cat([target[part] for target in targets]) for part in range(2))
    counts = torch.tensor([len(target.labels) for target in targets])
    images = torch.arange(len(targets)).repeat_interleave(counts).to(labels.device)
    required = torch.cat([target.required for target in targets])
    return boxes[required], labels[required], images[required]


def _ignored(boxes: Tensor, targets: Sequence[GroundTruth], *, threshold: float) -> Tensor:
    """Return which predicted boxes [n, positions, 4] lie on an object or in a crowd, bool [n, positions]."""
    return torch.stack([_is_ignored(*each, threshold=threshold) for each in zip(boxes, targets, strict=True)])


def _is_ignored(boxes: Tensor, target: GroundTruth, *, threshold: float) -> Tensor:
    """Return which predicted boxes lie on an object or in a crowd, bool [positions]."""
    from torchvision.ops import box_area, box_iou

    if not len(target.boxes):
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    overlap = box_iou(boxes, target.boxes)
    areas, crowd_areas = box_area(boxes)[:, None], box_area(target.boxes)
    common = overlap * (areas + crowd_areas) / (1 + overlap)
    return torch.where(target.crowd, common / areas, overlap).amax(dim=1) > threshold

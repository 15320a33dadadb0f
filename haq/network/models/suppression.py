"""Selection of detections: a threshold of the score, and suppression of boxes that overlap a better one."""

from dataclasses import dataclass

from torch import Tensor

from haq.tasks.detection.outputs import Detections


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Which boxes a detector reports.

    Attributes:
        score: Least score; low, since average precision is computed over all scores.
        overlap: IoU above which the worse one of two boxes of a class is suppressed.
        candidates: Greatest number of boxes before the suppression.
        detections: Greatest number of boxes of an image.
    """

    score: float = 0.001
    overlap: float = 0.45
    candidates: int = 4096
    detections: int = 300


def suppressed(boxes: Tensor, scores: Tensor, *, thresholds: Thresholds) -> Detections:
    """Select detections in one image; a box is reported for each class whose score is high enough.

    Args:
        boxes: Corners (x1, y1, x2, y2) in pixels, [positions, 4], or for each class [positions, classes, 4].
        scores: Scores [positions, classes] in [0, 1].
        thresholds: Which boxes are reported.

    Returns:
        The detections, in descending order of the score.
    """
    from torchvision.ops import batched_nms

    positions, labels = (scores > thresholds.score).nonzero(as_tuple=True)
    found = scores[positions, labels]
    order = found.argsort(descending=True, stable=True)[: thresholds.candidates]
    positions, labels, found = positions[order], labels[order], found[order]
    corners = boxes[positions] if boxes.ndim == 2 else boxes[positions, labels]
    kept = batched_nms(corners, found, labels, thresholds.overlap)[: thresholds.detections]
    return Detections(corners[kept], labels[kept], found[kept])

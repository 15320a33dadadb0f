"""Selection of detections: a threshold of the score, and suppression of boxes that overlap a better one."""

from dataclasses import dataclass

from torch import Tensor

from haq.tasks.detection.outputs import Detections


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Which boxes a detector reports.

    Attributes:
        score: Score above which boxes are reported; low, since average precision is computed over all scores.
        overlap: IoU above which the worse one of two boxes of a class is suppressed.
        candidates: Greatest number of boxes of a class before the suppression.
        detections: Greatest number of boxes of an image.
    """

    score: float = 0.001
    overlap: float = 0.45
    candidates: int = 300
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

    best, places = scores.topk(min(thresholds.candidates, len(scores)), dim=0)
    ranks, labels = (best > thresholds.score).nonzero(as_tuple=True)
    positions, found = places[ranks, labels], best[ranks, labels]
    corners = boxes[positions] if boxes.ndim == 2 else boxes[positions, labels]
    kept: Tensor = batched_nms(corners, found, labels, thresholds.overlap)[: thresholds.detections]
    return Detections(corners[kept], labels[kept], found[kept])

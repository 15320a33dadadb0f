"""Agreement of the boxes that two networks find in the same images."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from haq.tasks.detection.outputs import Detections

LEAST_SCORE = 0.3
"""Score from which a detection counts."""
LEAST_IOU = 0.5
"""Overlap from which two boxes of a class are the same object."""


@dataclass(frozen=True, slots=True)
class BoxAgreement:
    """Counts of detections of two networks; those of several images add up.

    Attributes:
        matched: Number of objects that both find.
        found: Number of objects that the one finds.
        expected: Number of objects that the other finds.
    """

    matched: int = 0
    found: int = 0
    expected: int = 0

    @property
    def share(self) -> float:
        """Share of the detections of both networks that are matched, in [0, 1] (F1); 1 if there are none."""
        return 2 * self.matched / (self.found + self.expected) if self.found + self.expected else 1.0

    def __add__(self, other: "BoxAgreement") -> "BoxAgreement":
        """Combine the counts of two images."""
        return BoxAgreement(self.matched + other.matched, self.found + other.found, self.expected + other.expected)


def box_agreement(
    found: Sequence[Detections], expected: Sequence[Detections], *, score: float = LEAST_SCORE
) -> list[BoxAgreement]:
    """Compare the detections of two networks, image by image.

    Detections are matched one to one, best scores first, with the box of the same class that overlaps most, from an IoU
    of 0.5 on.

    Args:
        found: Detections in each image.
        expected: Detections of the other network, such as the float one.
        score: Score from which a detection counts.

    Returns:
        The counts for each image.

    Examples:
        >>> box, label = torch.tensor([[0.0, 0.0, 10.0, 10.0]]), torch.tensor([0])
        >>> one, other = (Detections(box + shift, label, torch.tensor([0.9])) for shift in (0.0, 1.0))
        >>> box_agreement([one], [other])
        [BoxAgreement(matched=1, found=1, expected=1)]
    """
    return [
        _compare(_counted(ours, score), _counted(theirs, score)) for ours, theirs in zip(found, expected, strict=True)
    ]


def _counted(detections: Detections, score: float) -> Detections:
    best = detections.scores.argsort(descending=True, stable=True)
    best = best[detections.scores[best] >= score]
    return Detections(*(part[best] for part in detections))


def _compare(found: Detections, expected: Detections) -> BoxAgreement:
    matched = _matches(found, expected) if len(found.labels) and len(expected.labels) else 0
    return BoxAgreement(matched, len(found.labels), len(expected.labels))


def _matches(found: Detections, expected: Detections) -> int:
    """Return the number of one-to-one matches."""
    from torchvision.ops import box_iou

    overlap: Tensor = box_iou(found.boxes, expected.boxes)
    overlap = torch.where(found.labels[:, None] == expected.labels, overlap, overlap.new_zeros(()))
    matched = 0
    for row in range(len(overlap)):
        best = int(overlap[row].argmax())
        if overlap[row, best] >= LEAST_IOU:
            matched += 1
            overlap[:, best] = 0
    return matched

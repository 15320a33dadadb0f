"""SSD of torchvision: a backbone and heads whose raw outputs are those of the network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from haq.execution.structures import Structure
from haq.network.models.suppression import Thresholds, suppressed
from haq.network.models.torchvision_detectors.anchors import (
    AnchoredHeads,
    anchors_of,
    clipped,
    decoded,
    encoded,
    hard_negatives,
    matched,
)
from haq.network.models.torchvision_detectors.normalization import Normalization
from haq.tasks.detection.outputs import Detections, GroundTruth, OutputPart


@dataclass(frozen=True, slots=True, eq=False)
class SsdHeads(AnchoredHeads):
    """Heads of SSD, a `DetectionHeads`."""

    def detect(self, outputs: Structure) -> list[Detections]:
        """Decode raw outputs to boxes and suppress those that overlap a better one; see `DetectionHeads.detect`.

        Args:
            outputs: Offsets [n, positions, 4] and logits [n, positions, columns].

        Returns:
            Detections of each image.
        """
        offsets, logits = (output.detach().float() for output in outputs)
        boxes = clipped(decoded(offsets, self.anchors.to(offsets)), self.side)
        scores = logits.softmax(dim=-1)[..., list(self.columns)]
        return [suppressed(*each, thresholds=self.thresholds) for each in zip(boxes, scores, strict=True)]

    def loss(self, outputs: Structure, targets: Sequence[GroundTruth]) -> Tensor:
        """Compute the training loss (Liu et al. 2016, section 2.2); see `DetectionHeads.loss`.

        Smooth L1 of the offsets, cross-entropy of the classes with hard negatives, divided by the number of matches, or
        of images if that is greater.

        Args:
            outputs: Offsets [n, positions, 4] and logits [n, positions, columns].
            targets: Annotated objects of each image.

        Returns:
            The loss, [].
        """
        anchors = self.anchors.to(outputs[0])
        losses, count = [], 0
        for offsets, logits, target in zip(*outputs, targets, strict=True):
            found = matched(anchors, target, positive=0.5, negative=0.5)
            chosen = found.numbers >= 0
            objects = found.numbers[chosen]
            entropies = F.cross_entropy(logits, self.wanted_columns(found), reduction="none")
            negatives = hard_negatives(entropies, found.numbers == -1, positives=len(objects))
            moves = encoded(found.boxes[objects], anchors[chosen])
            box_loss = F.smooth_l1_loss(offsets[chosen], moves, reduction="sum")
            losses.append(box_loss + entropies[chosen].sum() + negatives.sum())
            count += len(objects)
        return torch.stack(losses).sum() / max(count, len(losses))

    def parts(self, outputs: Structure) -> tuple[OutputPart, ...]:
        """Split raw outputs into boxes and classes; see `DetectionHeads.parts`.

        Args:
            outputs: Offsets [n, positions, 4] and logits [n, positions, columns].

        Returns:
            The parts.
        """
        offsets, logits = outputs
        return OutputPart("box", offsets), OutputPart("class", logits)


class SsdDetector(nn.Module):
    """SSD for square images of RGB values in [0, 1] of a fixed size, with the names of torchvision's weights.

    Args:
        model: SSD of torchvision, whose parts are used.
        columns: Column of the logits for each class.
    """

    def __init__(self, model: Any, columns: tuple[int, ...]) -> None:
        super().__init__()
        side, _ = model.transform.fixed_size
        self.input_size = side, side
        self.normalize = Normalization(model.transform, side)
        self.backbone, self.head = model.backbone, model.head
        self.detection = SsdHeads(
            anchors=anchors_of(model, model.anchor_generator, side)[1],
            columns=columns,
            side=side,
            thresholds=Thresholds(
                score=model.score_thresh,
                overlap=model.nms_thresh,
                candidates=model.topk_candidates,
                detections=model.detections_per_img,
            ),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the raw outputs of the heads.

        Args:
            x: Images [n, 3, side, side].

        Returns:
            Offsets [n, positions, 4] and logits [n, positions, columns].
        """
        features = self.backbone(self.normalize(x))
        found = self.head(list(features.values()))
        return found["bbox_regression"], found["cls_logits"]

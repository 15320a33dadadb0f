"""Faster R-CNN of torchvision, with a fixed number of proposals.

The network returns the outputs of both stages: those of the region proposal network at all anchors, and those of the
box head for the proposals. Which anchors become proposals depends on the first stage, so that outputs of the second
stage have no fixed order. Each proposal therefore keeps the number of its anchor, and for the distance between outputs
those of the second stage stand at the anchor of their proposal; anchors without a proposal are background there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from haq.execution.structures import Structure
from haq.network.models.suppression import Thresholds, suppressed
from haq.network.models.torchvision_detectors.anchors import (
    WEIGHTS,
    AnchoredHeads,
    Matches,
    anchors_of,
    clipped,
    decoded,
    encoded,
    hard_negatives,
    matched,
)
from haq.network.models.torchvision_detectors.normalization import Normalization
from haq.tasks.detection.outputs import Detections, GroundTruth, OutputPart

UNIT_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
"""Factors of the offsets of proposals."""
BACKGROUND_LOGIT = 8.0
"""Logit of the background at anchors without a proposal, with 0 for all classes: 97 % background of 90 classes."""
SMALLEST = 0.01
"""Least width and height of a detected box, pixels."""
EMPTY = (0.0, 0.0, 1.0, 1.0)
"""Box that the second stage gets where there are fewer proposals than their number."""


class TwoStageOutputs(NamedTuple):
    """Raw outputs of Faster R-CNN.

    Attributes:
        objectness: Logits of all anchors, [n, anchors].
        offsets: Offsets of the proposals from all anchors, [n, anchors, 4].
        sources: Numbers of the anchors of the proposals, -1 for none, int64 [n, proposals].
        proposals: Corners of the proposals in pixels, [n, proposals, 4].
        logits: Logits of the proposals, [n, proposals, columns].
        refinements: Offsets of boxes from the proposals for each column, [n, proposals, columns, 4].
    """

    objectness: Tensor
    offsets: Tensor
    sources: Tensor
    proposals: Tensor
    logits: Tensor
    refinements: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class TwoStageHeads(AnchoredHeads):
    """Heads of Faster R-CNN, a `DetectionHeads`."""

    def detect(self, outputs: Structure) -> list[Detections]:
        """Decode raw outputs to boxes and suppress those that overlap a better one; see `DetectionHeads.detect`.

        Args:
            outputs: `TwoStageOutputs`.

        Returns:
            Detections of each image.
        """
        found = TwoStageOutputs(*(output.detach() for output in outputs))
        boxes = decoded(found.refinements.float(), found.proposals.float()[:, :, None])
        boxes = clipped(boxes, self.side)[:, :, list(self.columns)]
        scores = found.logits.float().softmax(dim=-1)[..., list(self.columns)]
        scores = scores * (found.sources >= 0)[..., None] * ((boxes[..., 2:] - boxes[..., :2]) >= SMALLEST).all(dim=-1)
        return [suppressed(*each, thresholds=self.thresholds) for each in zip(boxes, scores, strict=True)]

    def loss(self, outputs: Structure, targets: Sequence[GroundTruth]) -> Tensor:
        """Compute the training loss (Ren et al. 2015, section 3.1.2); see `DetectionHeads.loss`.

        The sum over both stages of a cross-entropy with hard negatives and of smooth L1 of the offsets, each divided by
        the number of its objects in the image.

        Args:
            outputs: `TwoStageOutputs`.
            targets: Annotated objects of each image.

        Returns:
            The loss, [].
        """
        found = TwoStageOutputs(*outputs)
        losses = [
            self._first_loss(found, image, target) + self._second_loss(found, image, target)
            for image, target in enumerate(targets)
        ]
        return torch.stack(losses).mean()

    def parts(self, outputs: Structure) -> tuple[OutputPart, ...]:
        """Split raw outputs into boxes, objectness and classes at all anchors; see `DetectionHeads.parts`.

        The second stage has boxes of the most probable class of each proposal only.

        Args:
            outputs: `TwoStageOutputs`.

        Returns:
            The parts of the first stage, and those of the second.
        """
        found = TwoStageOutputs(*outputs)
        best = found.logits[..., 1:].argmax(dim=-1) + 1
        refined = found.refinements.gather(2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(2)
        background = torch.zeros_like(found.logits[0, 0])
        background[0] = BACKGROUND_LOGIT
        return (
            OutputPart("objectness", found.objectness[..., None]),
            OutputPart("box", found.offsets),
            OutputPart("class", self._at_anchors(found.logits, found.sources, background)),
            OutputPart("box", self._at_anchors(refined, found.sources, torch.zeros_like(refined[0, 0]))),
        )

    def _at_anchors(self, values: Tensor, sources: Tensor, default: Tensor) -> Tensor:
        """Move values of proposals [n, proposals, c] to their anchors, [n, anchors, c]."""
        count, _, channels = values.shape
        # Rows without an anchor go to one more row, which is cut off.
        places = torch.where(sources < 0, len(self.anchors), sources)
        placed = default.expand(count, len(self.anchors) + 1, channels)
        return placed.scatter(1, places[..., None].expand_as(values), values)[:, :-1]

    def _first_loss(self, found: TwoStageOutputs, image: int, target: GroundTruth) -> Tensor:
        logits, anchors = found.objectness[image], self.anchors.to(found.offsets)
        matches = matched(anchors, target, positive=0.7, negative=0.3)
        entropies = F.binary_cross_entropy_with_logits(logits, (matches.numbers >= 0).to(logits), reduction="none")
        return _balanced(entropies, found.offsets[image], anchors, matches, weights=UNIT_WEIGHTS)

    def _second_loss(self, found: TwoStageOutputs, image: int, target: GroundTruth) -> Tensor:
        is_given = found.sources[image] >= 0
        proposals = found.proposals[image, is_given].detach()
        matches = matched(proposals, target, positive=0.5, negative=0.5, force=False)
        wanted = self.wanted_columns(matches)
        entropies = F.cross_entropy(found.logits[image, is_given], wanted, reduction="none")
        refinements = found.refinements[image, is_given][torch.arange(len(wanted), device=wanted.device), wanted]
        return _balanced(entropies, refinements, proposals, matches, weights=WEIGHTS)


def _balanced(
    entropies: Tensor, offsets: Tensor, boxes: Tensor, matches: Matches, *, weights: tuple[float, ...]
) -> Tensor:
    """Return the loss of one stage for one image."""
    chosen = matches.numbers >= 0
    objects = int(chosen.sum())
    negatives = hard_negatives(entropies, matches.numbers == -1, positives=objects)
    wanted = encoded(matches.boxes[matches.numbers[chosen]], boxes[chosen], weights)
    box_loss = F.smooth_l1_loss(offsets[chosen], wanted, beta=1 / 9, reduction="sum")
    return (entropies[chosen].sum() + negatives.sum() + box_loss) / max(objects, 1)


class TwoStageDetector(nn.Module):
    """Faster R-CNN for square images of RGB values in [0, 1] of a fixed size, with the names of torchvision's weights.

    Args:
        model: Faster R-CNN of torchvision, whose parts are used.
        columns: Column of the logits for each class.
        side: Width and height of images, pixels.
    """

    def __init__(self, model: Any, columns: tuple[int, ...], *, side: int) -> None:
        super().__init__()
        self.side, self.input_size = side, (side, side)
        self.backbone, self.rpn, self.roi_heads = model.backbone, model.rpn, model.roi_heads
        self.normalize = Normalization(model.transform, side)
        self.level_sizes, anchors = anchors_of(model, model.rpn.anchor_generator, side)
        self.detection = TwoStageHeads(
            anchors=anchors,
            columns=columns,
            side=side,
            thresholds=Thresholds(
                score=self.roi_heads.score_thresh,
                overlap=self.roi_heads.nms_thresh,
                candidates=10**4,
                detections=self.roi_heads.detections_per_img,
            ),
        )

    def forward(self, x: Tensor) -> TwoStageOutputs:
        """Compute the raw outputs of both stages.

        Args:
            x: Images [n, 3, side, side].

        Returns:
            The outputs.
        """
        features = self.backbone(self.normalize(x))
        objectness, offsets = self._first_stage(list(features.values()))
        with torch.no_grad():
            boxes = clipped(decoded(offsets, self.detection.anchors.to(offsets), UNIT_WEIGHTS), self.side)
            chosen = [self._proposed(*each) for each in zip(objectness, boxes, strict=True)]
        sources = torch.stack([sources for sources, _ in chosen])
        proposals = torch.stack([boxes for _, boxes in chosen])
        sizes = [(self.side, self.side)] * len(x)
        pooled = self.roi_heads.box_roi_pool(features, list(proposals), sizes)
        logits, refinements = self.roi_heads.box_predictor(self.roi_heads.box_head(pooled))
        shape = (*sources.shape, -1)
        return TwoStageOutputs(
            objectness, offsets, sources, proposals, logits.view(shape), refinements.view(*sources.shape, -1, 4)
        )

    def _first_stage(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits [n, anchors] and offsets [n, anchors, 4], by level, row, column and anchor of the cell."""
        objectness, offsets = self.rpn.head(features)
        logits = torch.cat([level.permute(0, 2, 3, 1).flatten(1) for level in objectness], dim=1)
        moves = [level.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3) for level in offsets]
        return logits, torch.cat(moves, dim=1)

    def _proposed(self, logits: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the anchors of one image's proposals, and their boxes, padded to the number of proposals."""
        from torchvision.ops import batched_nms, remove_small_boxes

        count = self.rpn._pre_nms_top_n["testing"]
        firsts = torch.tensor([0, *self.level_sizes]).cumsum(0).tolist()
        best = [
            first + level.topk(min(count, len(level))).indices
            for first, level in zip(firsts, torch.split(logits, self.level_sizes), strict=False)
        ]
        levels = torch.cat([torch.full_like(each, number) for number, each in enumerate(best)])
        sources = torch.cat(best)
        scores = logits[sources].sigmoid()
        kept = remove_small_boxes(boxes[sources], self.rpn.min_size)
        kept = kept[scores[kept] >= self.rpn.score_thresh]
        kept = kept[batched_nms(boxes[sources[kept]], scores[kept], levels[kept], self.rpn.nms_thresh)]
        total = self.rpn._post_nms_top_n["testing"]
        sources = sources[kept][:total]
        missing = total - len(sources)
        padding = boxes.new_tensor(EMPTY).expand(missing, 4)
        return F.pad(sources, (0, missing), value=-1), torch.cat((boxes[sources], padding))

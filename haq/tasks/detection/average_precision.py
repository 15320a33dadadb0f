"""Average precision of detections as COCO defines it, computed by faster-coco-eval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from haq.errors import UserError
from haq.execution.structures import Structure
from haq.tasks.detection.outputs import DetectionHeads, Detections, GroundTruth

MAX_DETECTIONS = 100
"""Number of the best detections of an image that count, as in COCO."""
ALL_AREAS = (0.0, 1e10)


@dataclass(frozen=True, slots=True)
class AveragePrecision:
    """Average precision, each in [0, 1]; 0 if no image has an object.

    Attributes:
        ap: Mean over IoU thresholds of 0.50 to 0.95 in steps of 0.05, and over the classes that occur.
        ap50: Mean over the classes at an IoU of 0.50.
    """

    ap: float
    ap50: float


class AveragePrecisionMeter:
    """Meter of the average precision of raw outputs.

    Args:
        heads: Meaning of the outputs.
    """

    def __init__(self, heads: DetectionHeads) -> None:
        self._heads = heads
        self._found: list[Detections] = []
        self._truths: list[GroundTruth] = []

    def update(self, outputs: Structure, targets: Sequence[GroundTruth]) -> None:
        """Add a batch.

        Args:
            outputs: Raw outputs of the network for n images.
            targets: Annotated objects of each image.
        """
        self._found.extend(self._heads.detect(outputs))
        self._truths.extend(targets)

    def compute(self) -> float:
        """Return the average precision over IoU thresholds of 0.50 to 0.95, in [0, 1]."""
        return average_precision(self._found, self._truths).ap

    def details(self) -> Mapping[str, float]:
        """Return further values of the same batches.

        Returns:
            `ap50`, the average precision at an IoU of 0.50.
        """
        return {"ap50": average_precision(self._found, self._truths).ap50}


def average_precision(found: Sequence[Detections], truths: Sequence[GroundTruth]) -> AveragePrecision:
    """Compute the average precision of detections.

    Args:
        found: Detections of each image.
        truths: Annotated objects of each image. Detections on crowds are not counted as wrong.

    Returns:
        The average precision.

    Raises:
        UserError: faster-coco-eval is not installed.

    Examples:
        >>> from torch import tensor
        >>> box, label = tensor([[0.0, 0.0, 10.0, 10.0]]), tensor([0])
        >>> shifted = box + tensor([2.0, 0.0, 2.0, 0.0])  # IoU 8 / 12: found at 4 of 10 thresholds
        >>> truth = GroundTruth(box, label, tensor([False]))
        >>> average_precision([Detections(shifted, label, tensor([0.9]))], [truth])
        AveragePrecision(ap=0.4, ap50=1.0)
    """
    dataset_type, evaluation_type = _library()
    if not any(bool((~truth.crowd).any()) for truth in truths):
        return AveragePrecision(0.0, 0.0)
    truth = dataset_type(_document(truths))
    rows = _rows(found)
    if not len(rows):
        return AveragePrecision(0.0, 0.0)
    evaluation = evaluation_type(truth, truth.loadRes(rows), "bbox", print_function=_ignored)
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [list(ALL_AREAS)], ["all"]
    evaluation.params.maxDets = [MAX_DETECTIONS]
    evaluation.evaluate()
    evaluation.accumulate()
    # [threshold, recall, class] of the one range of areas and the one number of detections.
    precision: NDArray[np.float64] = evaluation.eval["precision"][..., 0, 0]
    return AveragePrecision(_mean(precision), _mean(precision[0]))


def _mean(precision: NDArray[np.float64]) -> float:
    """Return the mean over the classes that occur; the precision of others is -1."""
    return float(precision[precision > -1].mean())


def _ignored(*_: Any) -> None:
    """Print nothing."""


def _document(truths: Sequence[GroundTruth]) -> dict[str, Any]:
    """Return annotations in COCO's format; images and classes are numbered, objects from 1."""
    annotations: list[dict[str, Any]] = []
    for image, truth in enumerate(truths):
        sizes = _xywh(truth.boxes).tolist()
        for box, label, crowd in zip(sizes, truth.labels.tolist(), truth.crowd.tolist(), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": label,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(crowd),
                }
            )
    labels = sorted({annotation["category_id"] for annotation in annotations})
    return {
        "images": [{"id": image} for image in range(len(truths))],
        "annotations": annotations,
        "categories": [{"id": label, "name": str(label)} for label in labels],
    }


def _rows(found: Sequence[Detections]) -> NDArray[np.float64]:
    """Return a row of image, x, y, width, height, score and class for each of the detections that count."""
    rows = []
    for image, each in enumerate(found):
        best = each.scores.argsort(descending=True, stable=True)[:MAX_DETECTIONS]
        columns = (each.scores[best, None], each.labels[best, None])
        values = [_xywh(each.boxes[best]), *(column.numpy(force=True).astype(np.float64) for column in columns)]
        rows.append(np.concatenate([np.full((len(best), 1), float(image)), *values], axis=1))
    return np.concatenate(rows) if rows else np.zeros((0, 7))


def _xywh(boxes: Tensor) -> NDArray[np.float64]:
    corners = boxes.numpy(force=True).astype(np.float64).reshape(-1, 4)
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


def _library() -> tuple[Any, Any]:
    """Return the classes of data sets and evaluations of faster-coco-eval."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise UserError(
            "AP needs faster-coco-eval, which is not installed; install haq with its extra 'detection'"
        ) from error
    return COCO, COCOeval_faster

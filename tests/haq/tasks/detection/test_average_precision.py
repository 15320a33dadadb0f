"""Average precision of COCO, by hand and against pycocotools."""

from typing import Any

import pytest
import torch
from torch import Tensor, tensor

from haq.tasks.detection.average_precision import average_precision
from haq.tasks.detection.outputs import Detections, GroundTruth

BOXES = tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 40.0, 40.0]])


def truth(boxes: Tensor, labels: list[int], crowd: list[bool] | None = None) -> GroundTruth:
    return GroundTruth(boxes, torch.tensor(labels, dtype=torch.int64), tensor(crowd or [False] * len(labels)).bool())


def found(boxes: Tensor, labels: list[int], scores: list[float]) -> Detections:
    return Detections(boxes, torch.tensor(labels, dtype=torch.int64), tensor(scores))


NOTHING = found(torch.zeros(0, 4), [], [])


def test_exact_boxes_have_an_average_precision_of_1() -> None:
    assert average_precision([found(BOXES, [0, 1], [0.9, 0.2])], [truth(BOXES, [0, 1])]).ap == pytest.approx(1.0)


def test_a_class_that_is_missed_counts_as_0() -> None:
    assert average_precision([found(BOXES[:1], [0], [0.9])], [truth(BOXES, [0, 1])]).ap == pytest.approx(0.5)


def test_classes_without_objects_do_not_count() -> None:
    both = average_precision([found(BOXES, [0, 7], [0.9, 0.9])], [truth(BOXES[:1], [0])])
    assert both.ap == pytest.approx(1.0)


def test_a_better_wrong_box_lowers_precision() -> None:
    # Precision is 1/2 at every recall, since the wrong box has the higher score.
    wrong = average_precision([found(BOXES, [0, 0], [0.2, 0.9])], [truth(BOXES[:1], [0])])
    assert wrong.ap == pytest.approx(0.5)
    assert wrong.ap50 == pytest.approx(0.5)


def test_images_without_objects_count_their_wrong_boxes() -> None:
    empty = truth(torch.zeros(0, 4), [])
    answers = [found(BOXES[:1], [0], [0.5]), found(BOXES[1:], [0], [0.9])]
    assert average_precision(answers, [truth(BOXES[:1], [0]), empty]).ap == pytest.approx(0.5)
    assert average_precision([answers[0], NOTHING], [truth(BOXES[:1], [0]), empty]).ap == pytest.approx(1.0)


def test_boxes_on_crowds_are_not_wrong() -> None:
    answers = [found(BOXES, [0, 0], [0.2, 0.9])]
    assert average_precision(answers, [truth(BOXES, [0, 0], [False, True])]).ap == pytest.approx(1.0)


def test_nothing_found_and_nothing_to_find_are_0() -> None:
    assert average_precision([NOTHING], [truth(BOXES, [0, 1])]).ap == 0
    assert average_precision([NOTHING], [truth(torch.zeros(0, 4), [])]).ap == 0


def test_figures_are_those_of_pycocotools(capsys: pytest.CaptureFixture[str]) -> None:
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    generator = torch.Generator().manual_seed(0)
    truths, answers = [], []
    for _ in range(12):
        count = int(torch.randint(0, 5, (1,), generator=generator))
        corner = 40 * torch.rand(count, 2, generator=generator)
        boxes = torch.cat((corner, corner + 8 + 12 * torch.rand(count, 2, generator=generator)), dim=1)
        labels = torch.randint(0, 3, (count,), generator=generator).tolist()
        truths.append(truth(boxes, labels))
        moved = torch.cat((boxes + torch.randn(count, 4, generator=generator), boxes + 5))
        answers.append(found(moved, labels * 2, torch.rand(2 * count, generator=generator).tolist()))
    dataset, results = coco.COCO(), []
    annotations: list[dict[str, Any]] = []
    for image, (each, answer) in enumerate(zip(truths, answers, strict=True)):
        for box, label in zip(each.boxes.tolist(), each.labels.tolist(), strict=True):
            size = [box[2] - box[0], box[3] - box[1]]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": label,
                    "bbox": [*box[:2], *size],
                    "area": size[0] * size[1],
                    "iscrowd": 0,
                }
            )
        for box, label, score in zip(
            answer.boxes.tolist(), answer.labels.tolist(), answer.scores.tolist(), strict=True
        ):
            size = [box[2] - box[0], box[3] - box[1]]
            results.append({"image_id": image, "category_id": label, "bbox": [*box[:2], *size], "score": score})
    dataset.dataset = {
        "images": [{"id": image} for image in range(12)],
        "annotations": annotations,
        "categories": [{"id": label} for label in range(3)],
    }
    dataset.createIndex()
    judged = evaluation.COCOeval(dataset, dataset.loadRes(results), "bbox")
    judged.evaluate()
    judged.accumulate()
    judged.summarize()
    capsys.readouterr()
    ours = average_precision(answers, truths)
    assert 0.1 < ours.ap < 0.9
    assert (ours.ap, ours.ap50) == pytest.approx((judged.stats[0], judged.stats[1]), abs=1e-9)

"""Agreement of boxes."""

import pytest
import torch
from torch import Tensor, nn, tensor

from haq.tasks.detection.agreement import BoxAgreement, box_agreement
from haq.tasks.detection.outputs import Detections
from haq.tasks.detection.task import DetectionTask

BOX = [0.0, 0.0, 10.0, 10.0]


def found(*objects: tuple[list[float], int, float]) -> Detections:
    boxes, labels, scores = zip(*objects, strict=True) if objects else ((), (), ())
    return Detections(tensor(boxes).reshape(-1, 4), tensor(labels, dtype=torch.int64), tensor(scores))


@pytest.mark.parametrize(
    ("other", "matched"),
    [
        ((BOX, 0, 0.5), 1),
        ((BOX, 1, 0.5), 0),  # another class
        (([0.0, 0.0, 10.0, 5.1], 0, 0.5), 1),  # IoU 0.51
        (([0.0, 0.0, 10.0, 4.9], 0, 0.5), 0),  # IoU 0.49
    ],
)
def test_boxes_of_a_class_that_overlap_by_half_match(other: tuple[list[float], int, float], matched: int) -> None:
    assert box_agreement([found((BOX, 0, 0.9))], [found(other)]) == [BoxAgreement(matched, 1, 1)]


def test_each_box_has_one_partner() -> None:
    twice = found((BOX, 0, 0.9), (BOX, 0, 0.8))
    assert box_agreement([twice], [found((BOX, 0, 0.9))]) == [BoxAgreement(1, 2, 1)]


def test_uncertain_boxes_do_not_count() -> None:
    assert box_agreement([found((BOX, 0, 0.29))], [found()]) == [BoxAgreement(0, 0, 0)]


def test_counts_add_up_to_a_share() -> None:
    total = sum([BoxAgreement(1, 2, 1), BoxAgreement(0, 0, 1)], BoxAgreement())
    assert total.share == 0.5
    assert BoxAgreement().share == 1.0


def test_predictions_of_a_task_are_its_boxes(cells: DetectionTask, cell_net: nn.Module) -> None:
    inputs, _ = next(cells.batches("report", batch_size=8))
    with torch.no_grad():
        outputs: Tensor = cell_net(inputs)
    assert cells.same_predictions(outputs, outputs + 0.01).all()
    moved = outputs.clone()
    moved[1, 4] = -9.0  # finds nothing in the second image
    assert cells.same_predictions(moved, outputs).tolist() == [image != 1 for image in range(8)]

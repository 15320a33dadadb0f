from math import atan, log, pi

import pytest
import torch
from torchvision.ops import complete_box_iou_loss

from haq.network.models.yolo.heads import YoloHead, YoloHeads
from haq.network.models.yolo.loss import LossSettings, assignments
from haq.tasks.detection.outputs import GroundTruth

ONE = YoloHead(((16.0, 16.0),), 16)


def truth(*boxes: tuple[float, ...], label: int = 0, crowd: bool = False) -> GroundTruth:
    count = len(boxes)
    corners = torch.tensor(boxes).view(count, 4)
    return GroundTruth(corners, torch.full((count,), label), torch.full((count,), crowd))


def heads(**settings: float) -> YoloHeads:
    return YoloHeads((ONE,), num_classes=2, settings=LossSettings(**settings))


def only(kind: str, **settings: float) -> YoloHeads:
    return heads(**{"box": 0, "objectness": 0, "classes": 0, kind: 1, **settings})


def test_box_loss_is_complete_iou() -> None:
    # A raw output of 0 is the box (0, 0, 16, 16). The object is twice as wide: IoU 1/2, distance of centres 8,
    # diagonal of the enclosing box 32^2 + 16^2.
    ratio = 4 / pi**2 * (atan(2) - atan(1)) ** 2
    expected = 1 - 1 / 2 + 8**2 / (32**2 + 16**2) + ratio**2 / (1 - 1 / 2 + ratio)
    predicted = torch.tensor([[0.0, 0, 16, 16]])
    wide = torch.tensor([[0.0, 0, 32, 16]])
    assert complete_box_iou_loss(predicted, wide).item() == pytest.approx(expected, rel=1e-4)
    output = torch.zeros(1, 7, 1, 2)
    output[..., 1] = 0
    found = only("box").loss((output,), [truth((-8, 0, 24, 16))])  # centre in the first cell
    expected = 1 - 1 / 2 + ratio**2 / (1 - 1 / 2 + ratio)
    assert found.item() == pytest.approx(expected, rel=1e-4)


def test_objectness_and_classes_are_cross_entropies_by_assignment() -> None:
    output = torch.zeros(1, 7, 1, 2)  # all probabilities are one half
    target = [truth((2, 2, 14, 14), label=1)]
    assert only("objectness").loss((output,), target).item() == pytest.approx(2 * log(2))
    assert only("classes").loss((output,), target).item() == pytest.approx(2 * log(2))
    output[0, 6, 0, 0] = 40
    output[0, 5, 0, 0] = -40
    assert only("classes").loss((output,), target).item() == pytest.approx(0, abs=1e-6)


def test_anchor_on_an_object_need_not_report_background() -> None:
    output = torch.zeros(1, 7, 1, 2)
    output[0, 0, 0, 1] = -100  # centre at the left border of the second cell: IoU 1/3 with an object of the first
    target = [truth((0, 0, 16, 16))]
    assert only("objectness", ignore_iou=0.3).loss((output,), target).item() == pytest.approx(log(2))
    assert only("objectness", ignore_iou=0.4).loss((output,), target).item() == pytest.approx(2 * log(2))


def test_crowds_are_neither_required_nor_penalized() -> None:
    output = torch.zeros(1, 7, 1, 2)
    target = [truth((-100, -100, 100, 100), crowd=True)]
    for kind in ("box", "objectness", "classes"):
        assert only(kind).loss((output,), target).item() == 0


def test_images_without_objects_are_background() -> None:
    output = torch.zeros(2, 7, 1, 2, requires_grad=True)
    loss = heads(objectness=1).loss((output,), [truth(), truth()])
    loss.backward()
    assert loss.item() == pytest.approx(2 * log(2))
    assert output.grad is not None
    assert (output.grad[:, 4] > 0).all()
    assert not output.grad[:, :4].any()


def test_objects_are_assigned_to_the_best_and_to_similar_anchors() -> None:
    two = YoloHeads((YoloHead(((10.0, 10.0), (20.0, 20.0)), 16), YoloHead(((40.0, 40.0),), 32)), num_classes=1)
    found = two.predictions((torch.zeros(1, 12, 2, 2), torch.zeros(1, 6, 1, 1)))
    boxes = torch.tensor([[14.0, 14, 26, 26], [0, 0, 30, 30], [1, 1, 3, 3]])
    # Cell (1, 1) of the first head is its position 3; IoU of the shapes: .69, .36, .09; .11, .44, .56; .04, .01, .003.
    objects, positions = assignments(boxes, found, threshold=0.3)
    assert list(zip(objects.tolist(), positions.tolist(), strict=True)) == [(0, 3), (0, 7), (1, 4), (1, 8), (2, 0)]


def test_boxes_without_area_are_left_out() -> None:
    output = torch.zeros(1, 7, 1, 2)
    assert only("box").loss((output,), [truth((3, 3, 3, 9))]).item() == 0


@pytest.mark.parametrize("value", [1e6, -1e6])
def test_extreme_outputs_give_finite_loss_and_gradients(value: float) -> None:
    output = torch.full((1, 7, 2, 2), value, requires_grad=True)
    loss = heads().loss((output,), [truth((2, 2, 14, 14), (0, 0, 32, 32))])
    loss.backward()
    assert loss.isfinite()
    assert output.grad is not None
    assert output.grad.isfinite().all()


def test_outputs_that_follow_the_gradient_find_the_objects() -> None:
    heads = YoloHeads((YoloHead(((20.0, 20.0), (40.0, 40.0)), 16),), num_classes=2)
    output = torch.zeros(1, 14, 4, 4, requires_grad=True)
    target = [truth((8, 16, 40, 48), (40, 40, 60, 56), label=1)]
    optimizer = torch.optim.Adam([output], lr=0.2)
    for _ in range(100):
        optimizer.zero_grad()
        heads.loss((output,), target).backward()
        optimizer.step()
    (found,) = heads.detect((output,))
    assert found.labels[:2].tolist() == [1, 1]
    assert (found.scores[:2] > 0.9).all()
    boxes = sorted(found.boxes[:2].tolist())
    assert boxes[0] == pytest.approx([8, 16, 40, 48], abs=2)
    assert boxes[1] == pytest.approx([40, 40, 60, 56], abs=2)

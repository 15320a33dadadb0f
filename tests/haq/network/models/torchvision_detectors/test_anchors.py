from math import log

import pytest
import torch

from haq.network.models.torchvision_detectors.anchors import decoded, encoded, hard_negatives, matched
from haq.tasks.detection.outputs import GroundTruth

ANCHORS = torch.tensor([[0.0, 0, 10, 20], [100, 100, 140, 120]])


def test_offsets_are_in_tenths_of_sizes_and_fifths_of_logarithms() -> None:
    boxes = decoded(torch.tensor([[10.0, 0, 5 * log(2), 0], [0, -5, 0, 5 * log(3)]]), ANCHORS)
    assert boxes[0].tolist() == pytest.approx([5, 0, 25, 20])  # a width to the right, twice as wide
    assert boxes[1].tolist() == pytest.approx([100, 70, 140, 130])  # half a height up, three times as high


def test_encoding_is_the_inverse() -> None:
    boxes = torch.tensor([[3.0, 4, 30, 90], [90, 99, 150, 101]])
    assert torch.allclose(decoded(encoded(boxes, ANCHORS), ANCHORS), boxes, atol=1e-4)


def test_extreme_offsets_give_finite_boxes() -> None:
    for value in (1e6, -1e6):
        assert decoded(torch.full((2, 4), value), ANCHORS).isfinite().all()


def test_anchors_are_matched_by_iou_and_each_object_has_its_best() -> None:
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 20], [50, 50, 60, 60], [0, 0, 10, 12], [200, 200, 210, 210]])
    boxes = torch.tensor([[0.0, 0, 10, 10], [55, 50, 65, 60], [0, 0, 0, 5], [195, 195, 215, 215]])
    target = GroundTruth(boxes, torch.tensor([7, 8, 9, 9]), torch.tensor([False, False, False, True]))
    found, _, labels = matched(anchors, target, positive=0.7, negative=0.2)
    # IoU with the first object: 1, 1/2 (ignored), 0, 5/6; with the second: 1/3 of the third anchor, its best
    assert found.tolist() == [0, -2, 1, 0, -2]
    assert labels.tolist() == [7, 8]
    unforced = matched(anchors, target, positive=0.7, negative=0.2, force=False)
    assert unforced.numbers.tolist() == [0, -2, -2, 0, -2]


def test_images_without_objects_are_background() -> None:
    target = GroundTruth(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool))
    found = matched(ANCHORS, target, positive=0.5, negative=0.5)
    assert found.numbers.tolist() == [-1, -1]
    assert (found.boxes.shape, found.labels.shape) == ((0, 4), (0,))


def test_the_three_hardest_negatives_of_each_object_are_selected() -> None:
    losses = torch.arange(100.0)
    is_background = losses < 98
    assert hard_negatives(losses, is_background, positives=10).tolist() == list(range(97, 67, -1))
    assert len(hard_negatives(losses, is_background, positives=0)) == 16
    assert len(hard_negatives(losses, losses < 3, positives=2)) == 3

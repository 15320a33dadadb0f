from math import exp, log

import pytest
import torch
from torch import Tensor

from haq.network.models.suppression import Thresholds
from haq.network.models.yolo.heads import YoloHead, YoloHeads
from haq.tasks.detection.outputs import DetectionHeads


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def one_cell(*values: float, height: int = 2, width: int = 3, row: int = 1, column: int = 2) -> Tensor:
    """Raw output of a head with one anchor that finds something in one cell only."""
    output = torch.full((1, len(values), height, width), -20.0)
    output[0, :, row, column] = torch.tensor(values)
    return output


def test_box_is_decoded_from_cell_anchor_and_scale() -> None:
    heads = YoloHeads((YoloHead(((10.0, 20.0),), 16, 1.2),), num_classes=2)
    (found,) = heads.detect((one_cell(0.5, -1, log(2), 0, 2, 3, -4),))
    x = (2 + 1.2 * (sigmoid(0.5) - 0.5) + 0.5) * 16
    y = (1 + 1.2 * (sigmoid(-1) - 0.5) + 0.5) * 16
    assert found.labels.tolist() == [0, 1]
    assert found.scores.tolist() == pytest.approx([sigmoid(2) * sigmoid(3), sigmoid(2) * sigmoid(-4)])
    assert found.boxes[0].tolist() == pytest.approx([x - 10, y - 10, x + 10, y + 10], rel=1e-5)


def test_positions_of_all_anchors_keep_their_values() -> None:
    head = YoloHead(((8.0, 8.0), (16.0, 16.0)), 8)
    output = torch.randn(2, 2 * 6, 3, 4)
    values = head.values(output)
    assert values.shape == (2, 2 * 3 * 4, 6)
    assert torch.equal(values[1, 12 + 2 * 4 + 3], output[1, 6:, 2, 3])  # second anchor, row 2, column 3
    cells, anchors = head.grid(output.shape[2:])
    assert cells[12 + 2 * 4 + 3].tolist() == [24, 16, 32, 24]
    assert anchors[12 + 2 * 4 + 3].tolist() == [16, 16]


def test_worse_of_two_boxes_of_a_class_is_suppressed() -> None:
    anchors = ((32.0, 32.0), (30.0, 30.0))
    heads = YoloHeads((YoloHead(anchors, 32),), num_classes=2)
    output = torch.tensor([0, 0, 0, 0, 5.0, 5, -20, 0, 0, 0, 0, 5, 4, 3]).view(1, 14, 1, 1)
    (found,) = heads.detect((output,))
    assert found.labels.tolist() == [0, 1]
    assert found.boxes[:, 2].tolist() == [32, 31]
    both = YoloHeads(heads.heads, num_classes=2, thresholds=Thresholds(overlap=0.95))
    assert both.detect((output,))[0].labels.tolist() == [0, 0, 1]
    few = YoloHeads(heads.heads, num_classes=2, thresholds=Thresholds(detections=1))
    assert len(few.detect((output,))[0].scores) == 1


def test_parts_hold_each_value_once() -> None:
    heads = YoloHeads((YoloHead(((8.0, 8.0),), 8), YoloHead(((16.0, 16.0),), 16)), num_classes=3)
    outputs = (torch.arange(2 * 8 * 4.0).view(2, 8, 2, 2), -1 - torch.arange(2 * 8.0).view(2, 8, 1, 1))
    parts = heads.parts(outputs)
    assert isinstance(heads, DetectionHeads)
    assert [part.kind for part in parts] == ["box", "objectness", "class"] * 2
    assert [tuple(part.values.shape) for part in parts[:3]] == [(2, 4, 4), (2, 4, 1), (2, 4, 3)]
    values = torch.cat([part.values.flatten() for part in parts])
    expected = torch.cat([output.flatten() for output in outputs])
    assert torch.equal(values.sort().values, expected.sort().values)


def test_extreme_outputs_give_finite_boxes() -> None:
    heads = YoloHeads((YoloHead(((10.0, 20.0),), 16),), num_classes=1)
    for value in (1e30, -1e30):
        (found,) = heads.detect((torch.tensor([value, value, value, value, 9.0, 9.0]).view(1, 6, 1, 1),))
        assert found.boxes.isfinite().all()
        assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()

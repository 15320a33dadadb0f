from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import get_model
from torchvision.ops import box_iou

from haq.errors import UserError
from haq.network.layers import trace
from haq.network.models.torchvision_detectors.anchors import encoded
from haq.network.models.torchvision_detectors.building import DETECTORS, build_detector
from haq.network.zoo import build_model, default_input_shape
from haq.tasks.detection.outputs import DetectionHeads, GroundTruth

SSD, TWO_STAGES = "ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn"
CLASSES = 3
LAST_LAYERS: dict[str, Sequence[Sequence[str]]] = {
    SSD: [
        [f"head.{kind}_head.module_list.{level}.1" for level in range(6)] for kind in ("regression", "classification")
    ],
    TWO_STAGES: [
        ["rpn.head.cls_logits"],
        ["rpn.head.bbox_pred"],
        [],
        [],
        ["roi_heads.box_predictor.cls_score"],
        ["roi_heads.box_predictor.bbox_pred"],
    ],
}
"""Last layers that write each output."""
TARGETS = [
    GroundTruth(
        torch.tensor([[10.0, 10, 50, 60], [0, 0, 300, 200]]), torch.tensor([0, 2]), torch.tensor([False, False])
    ),
    GroundTruth(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool)),
]


IMAGES = torch.rand(2, 3, 320, 320, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=[SSD, TWO_STAGES])
def pair(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """A network of torchvision whose outputs vary by about 1, so that it finds something, and ours with its weights."""
    torch.manual_seed(0)
    theirs = get_model(request.param, weights=None, weights_backbone=None, num_classes=CLASSES + 1).eval()
    for module in theirs.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    ours: Any = build_detector(request.param, CLASSES).eval()
    ours.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        spreads = [output.float().std() for output in ours(IMAGES)]
        for place, last_layers in enumerate(LAST_LAYERS[request.param]):
            for layer in last_layers:
                theirs.get_parameter(f"{layer}.weight").div_(spreads[place])
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.fixture(scope="module")
def outputs(pair: tuple[Any, Any]) -> Any:
    with torch.no_grad():
        return pair[1](IMAGES)


def test_detections_are_those_of_torchvision(pair: tuple[Any, Any], outputs: Any) -> None:
    theirs, ours = pair
    found = ours.detection.detect(outputs)
    with torch.no_grad():
        expected = theirs(list(IMAGES))
    for each, wanted in zip(found, expected, strict=True):
        assert len(each.scores) > 20
        assert torch.equal(each.labels + 1, wanted["labels"])
        assert torch.allclose(each.scores, wanted["scores"], atol=1e-5)
        assert torch.allclose(each.boxes, wanted["boxes"], atol=0.01)


def test_parts_have_one_position_for_every_anchor(pair: tuple[Any, Any], outputs: Any) -> None:
    detection = pair[1].detection
    assert isinstance(detection, DetectionHeads)
    shapes = [(part.kind, *part.values.shape) for part in detection.parts(outputs)]
    if len(outputs) == 2:
        assert shapes == [("box", 2, 3234, 4), ("class", 2, 3234, 4)]
    else:
        first = [("objectness", 2, 3375, 1), ("box", 2, 3375, 4)]
        assert shapes == [*first, ("class", 2, 3375, 4), ("box", 2, 3375, 4)]


def test_loss_has_finite_gradients_for_all_weights_also_without_objects(pair: tuple[Any, Any]) -> None:
    _, ours = pair
    ours.zero_grad()
    found = ours(IMAGES)
    loss = ours.detection.loss(found, TARGETS)
    loss.backward()
    assert loss.isfinite()
    gradients = [parameter.grad for parameter in ours.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    empty = ours.detection.loss([output[1:].detach() for output in found], TARGETS[1:])
    assert empty.isfinite()
    assert empty > 0


def test_loss_is_small_where_the_outputs_are_right() -> None:
    model: Any = build_detector(SSD, CLASSES)
    anchors = model.detection.anchors
    target = GroundTruth(anchors[1500:1501], torch.tensor([2]), torch.tensor([False]))
    offsets = encoded(target.boxes.expand_as(anchors), anchors)[None]
    logits = torch.zeros(1, len(anchors), CLASSES + 1)
    logits[..., 0] = 20
    wrong = model.detection.loss((offsets, logits), [target])
    on_object = box_iou(anchors, target.boxes)[:, 0] >= 0.5
    logits[0, on_object] = torch.tensor([0.0, 0, 0, 20])
    right = model.detection.loss((offsets, logits), [target])
    assert wrong > 19
    assert right < 1e-4


def test_outputs_of_a_proposal_stand_at_its_anchor() -> None:
    detection = build_detector(TWO_STAGES, CLASSES).detection
    assert isinstance(detection, DetectionHeads)
    sources = torch.tensor([[30, 7, -1]])
    logits = torch.arange(12.0).view(1, 3, 4)
    refinements = torch.arange(48.0).view(1, 3, 4, 4)
    proposals = torch.zeros(1, 3, 4)
    *_, classes, boxes = detection.parts(
        (torch.zeros(1, 3375), torch.zeros(1, 3375, 4), sources, proposals, logits, refinements)
    )
    assert classes.values[0, 30].tolist() == [0, 1, 2, 3]
    assert classes.values[0, 7].tolist() == [4, 5, 6, 7]
    assert classes.values[0, 8].tolist() == [8, 0, 0, 0]
    assert boxes.values[0, 30].tolist() == [12, 13, 14, 15]  # of the most probable class, the last
    assert classes.values.sum() == 6 + 22 + 8 * (3375 - 2)


def test_last_layers_of_the_heads_are_heads_of_the_network() -> None:
    found = trace(build_model(f"torchvision:{SSD}"), torch.zeros(1, 3, 320, 320))
    branches = ("regression_head", "classification_head")
    assert found.heads == tuple(f"head.{branch}.module_list.{level}.1" for branch in branches for level in range(6))
    assert not found.refused


def test_last_layers_of_both_stages_are_heads_of_the_network() -> None:
    found = trace(build_model(f"torchvision:{TWO_STAGES}"), torch.zeros(1, 3, 320, 320))
    stages = {name.partition(":")[0] for name in found.heads}
    predictors = {f"roi_heads.box_predictor.{name}" for name in ("cls_score", "bbox_pred")}
    assert stages == {"rpn.head.cls_logits", "rpn.head.bbox_pred", *predictors}
    (first,) = (layer for layer in found.layers if layer.name == "roi_heads.box_head.fc6")
    assert first.output_size == (150, 1)


def test_classes_of_coco_have_no_gaps() -> None:
    detection: Any = build_detector(SSD).detection
    assert detection.num_classes == 80
    assert detection.columns[:12] == (*range(1, 12), 13)  # 12 is a street sign, which COCO does not annotate
    assert detection.columns[-1] == 90
    scores = torch.full((1, 3234, 91), -20.0)
    scores[0, 5, 13] = 20
    scores[0, 9, 12] = 20
    (found,) = replace(detection).detect((torch.zeros(1, 3234, 4), scores))
    assert found.labels[0] == 11
    assert (found.scores > 0.5).sum() == 1


def test_images_of_another_size_are_refused() -> None:
    assert default_input_shape(f"torchvision:{SSD}") == (3, 320, 320)
    assert {side for _, side in DETECTORS.values()} == {300, 320}
    model = build_model(f"torchvision:{SSD}")
    assert model.input_size == (320, 320)  # that of images in folders
    with pytest.raises(UserError, match=r"does not run on an input of shape .*: expected images \[n, 3, 320, 320\]"):
        trace(model, torch.zeros(1, 3, 224, 224))

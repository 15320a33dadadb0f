"""Synthetic images of shapes."""

import pytest
import torch

from haq.errors import UserError
from haq.tasks import load_task
from haq.tasks.detection.shapes import CLASS_NAMES, SIDE, draw_shapes
from haq.tasks.detection.task import DetectionTask
from haq.tasks.options import TaskOptions

IMAGES = [draw_shapes((0, index)) for index in range(60)]
FEW = TaskOptions(search_images=10, report_images=8, calibration_images=6)


def test_equal_seeds_give_equal_images() -> None:
    (image, truth), (again, same) = draw_shapes((1, 5)), draw_shapes((1, 5))
    assert torch.equal(image, again)
    assert torch.equal(truth.boxes, same.boxes)
    assert not torch.equal(image, draw_shapes((1, 6))[0])


def test_boxes_lie_in_the_image_and_are_not_empty() -> None:
    boxes = torch.cat([truth.boxes for _, truth in IMAGES])
    assert boxes.min() >= 0
    assert boxes.max() <= SIDE
    assert (boxes[:, 2:] - boxes[:, :2]).min() >= 5


def test_there_are_all_classes_and_images_without_objects() -> None:
    assert {label for _, truth in IMAGES for label in truth.labels.tolist()} == set(range(len(CLASS_NAMES)))
    assert {0, 1, 4} <= {len(truth.labels) for _, truth in IMAGES}


def test_a_shape_differs_from_what_surrounds_it() -> None:
    image, truth = next(item for item in IMAGES if len(item[1].labels) == 1)
    left, top, right, bottom = truth.boxes[0].int().tolist()
    inside = image[:, top:bottom, left:right].mean(dim=(1, 2))
    outside = (image.sum(dim=(1, 2)) - inside * (bottom - top) * (right - left)) / (
        SIDE**2 - (bottom - top) * (right - left)
    )
    assert (inside - outside).abs().max() > 0.1


def test_splits_are_disjoint_and_depend_on_the_seed() -> None:
    task, other = (
        load_task("shapes", options=TaskOptions(search_images=10, report_images=8, split_seed=seed)) for seed in (0, 1)
    )
    assert isinstance(task, DetectionTask)
    images = [
        image.numpy().tobytes()
        for split in ("search", "selection", "report")
        for batch, _ in task.batches(split, batch_size=8)
        for image in batch
    ]
    assert len(set(images)) == len(images) == 18
    assert task.description()["splits"]["report"] != other.description()["splits"]["report"]


def test_a_network_that_is_no_detector_is_refused() -> None:
    task = load_task("shapes", model=torch.nn.Conv2d(3, 8, 3), options=FEW)
    with pytest.raises(UserError, match="shapes needs a detector"):
        task.validate(torch.nn.Conv2d(3, 8, 3))

"""Shifts and flips of images with boxes."""

from typing import Any

import torch
from torch import Generator

from haq.quantization.training.augmentation import augmented
from haq.tasks.detection.augmentation import shifted
from haq.tasks.detection.outputs import GroundTruth
from haq.tasks.detection.task import DetectionTask

TRUTH = GroundTruth(torch.tensor([[4.0, 4.0, 8.0, 8.0]]), torch.tensor([1]), torch.tensor([False]))


def test_boxes_move_with_the_pixels(cells: DetectionTask) -> None:
    image = torch.zeros(1, 3, 16, 16)
    image[0, :, 4:8, 4:8] = 1.0
    for seed in range(8):
        moved, (target,) = augmented(cells, (image, [TRUTH]), "auto", Generator().manual_seed(seed))
        rows, columns = moved[0, 0].nonzero(as_tuple=True)
        corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert target.boxes.tolist() == [[float(each) for each in corners]]


def test_objects_outside_the_image_are_left_out() -> None:
    _, target = shifted(torch.zeros(3, 16, 16), TRUTH, right=-8, down=0)
    assert [part.shape[0] for part in target] == [0, 0, 0]


def test_nothing_moves_without_augmentation(cells: DetectionTask) -> None:
    batch: tuple[Any, Any] = next(cells.batches("train", batch_size=2))
    moved, targets = augmented(cells, batch, "none", Generator())
    assert moved is batch[0]
    assert targets is batch[1]

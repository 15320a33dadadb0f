"""Random shifts and flips of images and of the boxes in them."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from haq.tasks.detection.outputs import GroundTruth

MARGIN = 8
"""Images are shifted by up to their side divided by this."""
LEAST_VISIBLE = 0.25
"""Share of a box that must remain in the image; the object is left out otherwise."""


def augment_images(
    images: Tensor, targets: Sequence[GroundTruth], *, flips: bool, generator: Generator
) -> tuple[Tensor, list[GroundTruth]]:
    """Shift each image at random, and mirror every other one if requested; pixels from outside are 0.

    Args:
        images: Images [n, c, h, w].
        targets: Annotated objects of each image.
        flips: Whether images are mirrored.
        generator: Random number generator on the CPU.

    Returns:
        Images in the same shape, and their objects.
    """
    moved = [_augmented(*item, flips=flips, generator=generator) for item in zip(images, targets, strict=True)]
    batch = torch.stack([image for image, _ in moved])
    return batch.contiguous(memory_format=torch.channels_last), [target for _, target in moved]


def shifted(image: Tensor, target: GroundTruth, *, right: int, down: int) -> tuple[Tensor, GroundTruth]:
    """Shift an image and its objects.

    Args:
        image: Image [c, h, w].
        target: Its objects.
        right: Shift to the right, pixels.
        down: Shift downwards, pixels.

    Returns:
        Image in the same shape, and the objects of which enough remains, cut at its border.

    Examples:
        >>> truth = GroundTruth(torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.tensor([1]), torch.tensor([False]))
        >>> shifted(torch.zeros(3, 8, 8), truth, right=-2, down=0)[1].boxes.tolist()
        [[0.0, 0.0, 2.0, 4.0]]
    """
    height, width = image.shape[1:]
    moved = torch.zeros_like(image)
    rows, columns = _overlap(height, down), _overlap(width, right)
    moved[:, rows[1], columns[1]] = image[:, rows[0], columns[0]]
    boxes = target.boxes + target.boxes.new_tensor([right, down, right, down])
    limits = boxes.new_tensor([width, height, width, height])
    cut = torch.minimum(boxes.clamp(min=0), limits)
    kept = _areas(cut) >= LEAST_VISIBLE * _areas(boxes)
    return moved, GroundTruth(cut[kept], target.labels[kept], target.crowd[kept])


def mirrored(image: Tensor, target: GroundTruth) -> tuple[Tensor, GroundTruth]:
    """Mirror an image and its objects left to right.

    Args:
        image: Image [c, h, w].
        target: Its objects.

    Returns:
        Image in the same shape, and its objects.

    Examples:
        >>> truth = GroundTruth(torch.tensor([[1.0, 0.0, 4.0, 4.0]]), torch.tensor([1]), torch.tensor([False]))
        >>> mirrored(torch.zeros(3, 8, 8), truth)[1].boxes.tolist()
        [[4.0, 0.0, 7.0, 4.0]]
    """
    left, top, right, bottom = target.boxes.unbind(dim=1)
    width = image.shape[2]
    return image.flip(2), target._replace(boxes=torch.stack((width - right, top, width - left, bottom), dim=1))


def _augmented(image: Tensor, target: GroundTruth, *, flips: bool, generator: Generator) -> tuple[Tensor, GroundTruth]:
    down, right = (_drawn_shift(side, generator) for side in image.shape[1:])
    image, target = shifted(image, target, right=right, down=down)
    if flips and torch.rand(1, generator=generator).item() < 0.5:
        return mirrored(image, target)
    return image, target


def _drawn_shift(side: int, generator: Generator) -> int:
    most = side // MARGIN
    return int(torch.randint(-most, most + 1, (1,), generator=generator))


def _overlap(side: int, shift: int) -> tuple[slice, slice]:
    """Return source and destination of the pixels that a shift leaves in the image."""
    return slice(max(-shift, 0), side - max(shift, 0)), slice(max(shift, 0), side - max(-shift, 0))


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)

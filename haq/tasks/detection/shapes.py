"""Synthetic images of circles, squares and triangles on a textured background, generated from seeds."""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from haq.tasks.detection.outputs import GroundTruth
from haq.tasks.splits import Pool

SIDE = 64
"""Height and width of an image, pixels."""
CLASS_NAMES = ("circle", "square", "triangle")
TRAIN_IMAGES, VAL_IMAGES = 3000, 1500
MAX_OBJECTS = 4
EMPTY_SHARE = 0.1
"""Share of images without an object."""
SIZES = (10, 29)
"""Least side of a shape and the limit below which sides are drawn, pixels."""
CONTRAST = 0.25
"""Least difference of a shape's colour from the background around it in one channel."""
MAX_COVERED = 0.3
"""Largest share of the smaller of two boxes that both cover."""
ATTEMPTS = 20
"""Number of places that are tried for a shape before it is left out."""
NOISE = 0.04
"""Standard deviation of the noise of each pixel."""

Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a box, pixels."""
Pixels = NDArray[np.float64]
"""Colours of pixels in [0, 1], [h, w, 3]."""


def shapes_pools() -> tuple[Pool, Pool]:
    """Return the images of the train and of the val part; each is generated when it is read.

    Returns:
        Items of the train and of the val part, all of one class, so that splits are drawn at random.
    """
    return _pool("train", TRAIN_IMAGES), _pool("val", VAL_IMAGES)


def draw_shapes(seed: tuple[int, ...]) -> tuple[Tensor, GroundTruth]:
    """Generate an image.

    Args:
        seed: Seed of everything random.

    Returns:
        Image [3, 64, 64] with values in [0, 1], and its objects.

    Examples:
        >>> image, truth = draw_shapes((1, 7))
        >>> image.shape, truth.boxes.shape[1], bool((truth.labels < 3).all())
        (torch.Size([3, 64, 64]), 4, True)
    """
    generator = np.random.default_rng(seed)
    count = 0 if generator.random() < EMPTY_SHARE else int(generator.integers(1, MAX_OBJECTS + 1))
    pixels = _background(generator)
    boxes: list[Box] = []
    labels: list[int] = []
    for _ in range(count):
        box = _free_box(boxes, generator)
        if box is not None:
            labels.append(int(generator.integers(len(CLASS_NAMES))))
            boxes.append(_draw(pixels, labels[-1], box, generator))
    pixels += generator.normal(0, NOISE, pixels.shape)
    image = torch.from_numpy(np.rint(255 * pixels.clip(0, 1)).astype(np.float32) / 255).permute(2, 0, 1)
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return image, GroundTruth(
        corners, torch.tensor(labels, dtype=torch.int64), torch.zeros(len(boxes), dtype=torch.bool)
    )


def _pool(part: str, images: int) -> Pool:
    number = 0 if part == "train" else 1
    keys = [f"{part}:{index}" for index in range(images)]
    return Pool(keys, np.zeros(images, dtype=np.int64), lambda index: draw_shapes((number, index)))


def _background(generator: np.random.Generator) -> Pixels:
    """Return stripes of a random direction and width between two random colours, with coarse spots."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    angle, wavelength, phase = generator.random(3) * (np.pi, 24, 2 * np.pi) + (0, 8, 0)
    wave = np.sin(2 * np.pi * (rows * np.sin(angle) + columns * np.cos(angle)) / wavelength + phase)
    first, second = generator.random((2, 3))
    colour = first + (second - first) * 0.25 * (1 + wave[..., None])
    spots = generator.random((8, 8, 3)).repeat(SIDE // 8, axis=0).repeat(SIDE // 8, axis=1)
    return np.asarray(0.85 * colour + 0.15 * spots)


def _free_box(boxes: list[Box], generator: np.random.Generator) -> tuple[int, int, int] | None:
    """Draw left, top and side of a square that covers little of the boxes so far; None if none is found."""
    for _ in range(ATTEMPTS):
        side = int(generator.integers(*SIZES))
        left, top = generator.integers(0, SIDE - side + 1, 2).tolist()
        if all(_covered((left, top, left + side, top + side), box) <= MAX_COVERED for box in boxes):
            return left, top, side
    return None


def _covered(box: Box, other: Box) -> float:
    """Return the share of the smaller box that both cover."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    smaller = min((each[2] - each[0]) * (each[3] - each[1]) for each in (box, other))
    return max(width, 0) * max(height, 0) / smaller


def _draw(pixels: Pixels, label: int, square: tuple[int, int, int], generator: np.random.Generator) -> Box:
    """Draw a shape into a square and return the box of its pixels."""
    left, top, side = square
    inside = _mask(label, side)
    area = pixels[top : top + side, left : left + side]
    around = area.mean(axis=(0, 1))
    colour = generator.random(3)
    while np.abs(colour - around).max() < CONTRAST:
        colour = generator.random(3)
    area[inside] = 0.85 * colour + 0.15 * area[inside]
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    return left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]) + 1, top + int(rows[-1]) + 1


@cache
def _mask(label: int, side: int) -> NDArray[np.bool_]:
    """Return the pixels [side, side] of a shape that fills a square."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    if CLASS_NAMES[label] == "circle":
        return np.asarray((x - 0.5) ** 2 + (y - 0.5) ** 2 <= 0.25)
    if CLASS_NAMES[label] == "square":
        return np.ones((side, side), dtype=bool)
    return np.asarray(np.abs(x - 0.5) <= y / 2)

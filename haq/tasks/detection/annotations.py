"""Annotated images, whatever file format their boxes come from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from haq.errors import UserError
from haq.tasks.detection.outputs import GroundTruth

Corners = NDArray[np.float64]
"""Corners (x1, y1, x2, y2) of boxes in pixels, [objects, 4]."""
ReadObjects = Callable[[int, tuple[int, int]], GroundTruth]
"""Function from the number of an image, and its width and height in pixels, to its objects; it raises UserError."""


@dataclass(frozen=True, slots=True)
class AnnotatedImages:
    """Images of one part of a data set, with their objects.

    Attributes:
        paths: Files of the images.
        read_objects: Function that returns the objects of an image.
    """

    paths: Sequence[Path]
    read_objects: ReadObjects


def clipped_corners(boxes: Corners, size: tuple[int, int], *, where: Callable[[int], str]) -> Corners:
    """Clip boxes to an image.

    Args:
        boxes: Boxes of the objects in one image.
        size: Width and height of the image, pixels.
        where: Function from the number of an object to its place in the file, for messages.

    Returns:
        The parts of the boxes inside the image.

    Raises:
        UserError: A box lies outside the image.

    Examples:
        >>> clipped_corners(np.array([[-1.0, 2.0, 5.0, 9.0]]), (8, 8), where=str).tolist()
        [[0.0, 2.0, 5.0, 8.0]]
    """
    limits = np.array([*size, *size], dtype=np.float64)
    clipped: Corners = np.clip(boxes, 0, limits)
    outside = np.flatnonzero((clipped[:, 2:] <= clipped[:, :2]).any(axis=1))
    if len(outside):
        box = ", ".join(f"{value:.4g}" for value in boxes[outside[0]])
        raise UserError(
            f"{where(int(outside[0]))}: the box with the corners ({box}) lies outside its image of {size[0]}x{size[1]}"
        )
    return clipped


def ground_truth(boxes: Corners, labels: Sequence[int], crowd: Sequence[bool]) -> GroundTruth:
    """Convert objects to tensors.

    Args:
        boxes: Boxes of the objects.
        labels: Class of each object.
        crowd: Whether a box covers a group of objects.

    Returns:
        The objects.
    """
    return GroundTruth(
        torch.from_numpy(boxes.astype(np.float32).reshape(-1, 4)),
        torch.tensor(list(labels), dtype=torch.int64),
        torch.tensor(list(crowd), dtype=torch.bool),
    )


def require_images(paths: Sequence[Path], *, listed_in: str) -> None:
    """Require that image files exist.

    Args:
        paths: Files of images.
        listed_in: What lists them, for the message.

    Raises:
        UserError: There are no images, or one is missing; the message names the first and counts them.
    """
    if not paths:
        raise UserError(f"{listed_in} lists no images; add some")
    present = {
        folder: {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
        for folder in {path.parent for path in paths}
    }
    missing = [path for path in paths if path.name not in present[path.parent]]
    if missing:
        more = f" ({len(missing)} of {len(paths)} images are missing)" if len(missing) > 1 else ""
        raise UserError(f"{missing[0]} is missing, which {listed_in} lists{more}; add it or remove its annotations")

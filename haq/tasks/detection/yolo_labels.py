"""Labels in YOLO's text format: a file for each image, and in it a line `class x y width height` for each object."""

from math import isfinite
from pathlib import Path

import numpy as np

from haq.errors import UserError
from haq.file_limits import LABELS, read_text
from haq.tasks.classification.image_folder import SUFFIXES
from haq.tasks.detection.annotations import AnnotatedImages, clipped_corners, ground_truth
from haq.tasks.detection.outputs import GroundTruth


def yolo_images(images: Path, labels: Path, *, num_classes: int) -> AnnotatedImages:
    """Return the images of a folder, with labels from another.

    An image whose file of labels is empty or missing has no objects.

    Args:
        images: Folder of the images.
        labels: Folder of the labels, whose files have the names of the images and the suffix `.txt`.
        num_classes: Number of classes.

    Returns:
        The images, sorted by name.

    Raises:
        UserError: There are no images, or labels without an image.
    """
    if not images.is_dir() or not labels.is_dir():
        raise UserError(f"{labels if images.is_dir() else images} is not a folder; expected images and labels in both")
    paths = sorted(path for path in images.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
    if not paths:
        raise UserError(f"{images} holds no images ({' '.join(SUFFIXES)}); add some")
    stems = {path.stem for path in paths}
    alone = sorted(file.name for file in labels.glob("*.txt") if file.stem not in stems and file.name != "classes.txt")
    if alone:
        raise UserError(
            f"{labels / alone[0]} has no image in {images} ({len(alone)} such); add it or remove the labels"
        )

    def read_objects(place: int, size: tuple[int, int]) -> GroundTruth:
        return read_labels(labels / f"{paths[place].stem}.txt", size, num_classes=num_classes)

    return AnnotatedImages(paths, read_objects)


def read_labels(file: Path, size: tuple[int, int], *, num_classes: int) -> GroundTruth:
    """Read the objects of one image.

    Args:
        file: File of labels, which may be missing or empty.
        size: Width and height of the image, pixels.
        num_classes: Number of classes.

    Returns:
        The objects.

    Raises:
        UserError: The file cannot be read, a line is not a class and four numbers, the class is unknown, or the box
            lies outside the image.
    """
    lines = read_text(file, LABELS).splitlines() if file.exists() else []
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    rows = [_numbers(line, f"{file}, line {number}", num_classes) for number, line in numbered]
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    centres, sizes = table[:, 1:3] * size, table[:, 3:] * size
    corners = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    inside = clipped_corners(corners, size, where=lambda place: f"{file}, line {numbered[place][0]}")
    return ground_truth(inside, table[:, 0].astype(int).tolist(), [False] * len(rows))


def _numbers(line: str, where: str, num_classes: int) -> list[float]:
    """Return the class and the box of a line; the box is in fractions of the image."""
    try:
        values = [float(part) for part in line.split()]
    except ValueError:
        values = []
    if len(values) != 5 or not all(map(isfinite, values)):
        shown = " ".join(line.split())[:60]
        raise UserError(f"{where}: {shown!r} is not a class and four finite numbers, such as 16 0.5 0.5 0.2 0.4")
    if not (values[0].is_integer() and 0 <= values[0] < num_classes):
        raise UserError(f"{where}: class {values[0]:g} is unknown; there are {num_classes}, numbered from 0")
    if min(values[3:]) <= 0:
        raise UserError(f"{where}: a box without an area; width and height must be above 0")
    return values

"""Annotations in COCO's JSON format."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, FiniteFloat, ValidationError

from haq.errors import UserError, validation_message
from haq.file_limits import ANNOTATIONS, read_bytes
from haq.tasks.detection.annotations import AnnotatedImages, clipped_corners, ground_truth, require_images
from haq.tasks.detection.outputs import GroundTruth


class _Image(BaseModel):
    id: int
    file_name: str


class _Annotation(BaseModel):
    id: int | str = "without id"
    image_id: int
    category_id: int
    bbox: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]  # x, y, width, height
    iscrowd: bool = False


class _Category(BaseModel):
    id: int
    name: str


class Document(BaseModel):
    """The parts of a file of annotations that are used; other entries, such as outlines, are skipped."""

    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def read_document(file: Path) -> Document:
    """Read a file of annotations.

    Args:
        file: JSON file.

    Returns:
        Its contents.

    Raises:
        UserError: The file cannot be read, is too large, is not JSON, or lacks an entry; numbers that are not
            finite are refused.
    """
    content = read_bytes(file, ANNOTATIONS)
    try:
        return Document.model_validate_json(content)
    except ValidationError as error:
        raise UserError(f"{file} is no file of COCO annotations: {validation_message(error)}") from error


def coco_images(file: Path, document: Document, folder: Path, class_names: Sequence[str]) -> AnnotatedImages:
    """Return the images that a file of annotations lists.

    Objects whose box has no width or no height, of which COCO itself has a few, are left out.

    Args:
        file: The file, for messages.
        document: Its contents.
        folder: Folder of the images.
        class_names: Names of the classes in the order of the network's outputs.

    Returns:
        The images.

    Raises:
        UserError: An image is missing, an annotation is of an unknown image or category, or images or categories share
            a number.
    """
    _require_distinct(file, "images", [image.id for image in document.images])
    _require_distinct(file, "categories", [category.id for category in document.categories])
    paths = [folder / image.file_name for image in document.images]
    require_images(paths, listed_in=str(file))
    label_of = _labels(file, document.categories, class_names)
    place_of = {image.id: place for place, image in enumerate(document.images)}
    objects: Mapping[int, list[_Annotation]] = defaultdict(list)
    for each in document.annotations:
        if each.image_id not in place_of:
            raise UserError(f"{file}, annotation {each.id}: image {each.image_id} is not among the file's images")
        if each.category_id not in label_of:
            raise UserError(
                f"{file}, annotation {each.id}: category {each.category_id} is not among the file's categories"
            )
        if min(each.bbox[2:]) < 0:
            raise UserError(f"{file}, annotation {each.id}: a box of negative width or height")
        if min(each.bbox[2:]) > 0:
            objects[place_of[each.image_id]].append(each)

    def read_objects(place: int, size: tuple[int, int]) -> GroundTruth:
        found = objects.get(place, [])
        boxes = np.array([each.bbox for each in found], dtype=np.float64).reshape(-1, 4)
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        inside = clipped_corners(corners, size, where=lambda number: f"{file}, annotation {found[number].id}")
        return ground_truth(inside, [label_of[each.category_id] for each in found], [each.iscrowd for each in found])

    return AnnotatedImages(paths, read_objects)


def _require_distinct(file: Path, kind: str, numbers: Sequence[int]) -> None:
    number, count = Counter(numbers).most_common(1)[0] if numbers else (0, 0)
    if count > 1:
        raise UserError(f"{file}: {count} {kind} have the id {number}; give each its own")


def _labels(file: Path, categories: Sequence[_Category], class_names: Sequence[str]) -> dict[int, int]:
    """Return the class of each category: classes have the order of the file, unless names are given in another."""
    index_of = {name: index for index, name in enumerate(class_names)}
    unknown = [category.name for category in categories if category.name not in index_of]
    if unknown:
        raise UserError(
            f"{file}: category {unknown[0]!r} is not among the {len(class_names)} classes of the data "
            f"({len(unknown)} such); list all names in classes.txt, in the order of the network's outputs"
        )
    return {category.id: index_of[category.name] for category in categories}

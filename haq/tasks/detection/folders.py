"""Detection data in folders: COCO's annotations, or YOLO's labels."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from haq.errors import UserError
from haq.tasks.classification.image_folder import read_class_names, read_picture
from haq.tasks.detection.annotations import AnnotatedImages
from haq.tasks.detection.coco_annotations import coco_images, read_document
from haq.tasks.detection.letterbox import Letterbox
from haq.tasks.detection.loading import drawn_task
from haq.tasks.detection.outputs import GroundTruth
from haq.tasks.detection.task import DetectionTask, heads_of
from haq.tasks.detection.yolo_labels import yolo_images
from haq.tasks.options import TaskOptions
from haq.tasks.splits import Pool
from haq.tasks.transforms import ImageTransform, resolve_transform

LAYOUT = (
    "annotations/instances_train*.json and instances_val*.json with images in train2017/, val2017/ or images/, "
    "or images/train, images/val, labels/train and labels/val"
)
"""Description of the layouts, for error messages."""
NAME_FILES = ("classes.txt", "coco.names")
"""Files with the names of the classes, one a line, in the order of the network's outputs."""
DEFAULT_SIDE = 416
"""Side of the input of a network that does not state it, pixels."""


def load_coco(spec: str, model: nn.Module | None, options: TaskOptions) -> DetectionTask:
    """Load a folder with COCO's annotations or YOLO's labels.

    Args:
        spec: Name of the data, `coco:DIR`.
        model: Network, whose attribute `detection` tells what its outputs mean; it may have `input_size`, height and
            width of its input, and `transform`.
        options: Options of splits and of the transform.

    Returns:
        The task.

    Raises:
        UserError: The folder has another layout, or annotations cannot be used.
    """
    folder = Path(spec.partition(":")[2]).expanduser()
    if not folder.is_dir():
        raise UserError(f"{folder} {'is a file' if folder.exists() else 'does not exist'}; give a folder")
    letterbox = _letterbox(model, options)
    if (folder / "annotations").is_dir():
        parts, names = _read_coco(folder)
    elif (folder / "labels").is_dir():
        parts, names = _read_yolo(folder, model)
    else:
        raise UserError(f"{folder} has no folder annotations or labels; expected {LAYOUT}")
    train, val = (_pool(folder, images, letterbox) for images in parts)
    return drawn_task(spec, (train, val), names, model=model, options=options, transform=letterbox.facts())


def _letterbox(model: nn.Module | None, options: TaskOptions) -> Letterbox:
    if options.crop is not None:
        raise UserError("--crop cuts objects off; leave it out, --resize sets the size of the network's input")
    height, width = _input_size(model, options)
    plain = replace(options, resize=None)
    return Letterbox(height, width, resolve_transform(model, ImageTransform(), plain))


def _input_size(model: nn.Module | None, options: TaskOptions) -> tuple[int, int]:
    """Return height and width from the options, else from the network."""
    if options.resize is not None:
        return options.resize, options.resize
    if options.input is not None:
        return options.input[1], options.input[2]
    height, width = getattr(model, "input_size", None) or (DEFAULT_SIDE, DEFAULT_SIDE)
    return int(height), int(width)


def _read_coco(folder: Path) -> tuple[list[AnnotatedImages], tuple[str, ...]]:
    files = [_annotation_file(folder, part) for part in ("train", "val")]
    documents = [read_document(file) for file in files]
    given = _given_names(folder)
    names = given or tuple(category.name for category in documents[0].categories)
    parts = [
        coco_images(file, document, _image_folder(folder, file), names)
        for file, document in zip(files, documents, strict=True)
    ]
    return parts, names


def _annotation_file(folder: Path, part: str) -> Path:
    found = sorted((folder / "annotations").glob(f"instances_{part}*.json"))
    if len(found) != 1:
        count = "several files" if found else "no file"
        raise UserError(f"{folder / 'annotations'} has {count} instances_{part}*.json; expected one: {LAYOUT}")
    return found[0]


def _image_folder(folder: Path, file: Path) -> Path:
    """Return the folder of the images that a file of annotations lists: `train2017` for `instances_train2017.json`."""
    name = file.stem.removeprefix("instances_")
    places = [folder / "images" / name, folder / name]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise UserError(f"{file} has no images: neither {places[0]} nor {places[1]} is a folder")
    return found


def _read_yolo(folder: Path, model: nn.Module | None) -> tuple[list[AnnotatedImages], tuple[str, ...]]:
    names = _given_names(folder) or _numbered_names(folder, model)
    parts = [
        yolo_images(folder / "images" / part, folder / "labels" / part, num_classes=len(names))
        for part in ("train", "val")
    ]
    return parts, names


def _numbered_names(folder: Path, model: nn.Module | None) -> tuple[str, ...]:
    """Name the classes of a network by their numbers."""
    heads = heads_of(model)
    if heads is None:
        raise UserError(f"{folder} has none of {', '.join(NAME_FILES)}; list the names of the classes, one a line")
    return tuple(map(str, range(heads.num_classes)))


def _given_names(folder: Path) -> tuple[str, ...]:
    file = next((folder / name for name in NAME_FILES if (folder / name).exists()), None)
    return () if file is None else tuple(read_class_names(file))


def _pool(folder: Path, images: AnnotatedImages, letterbox: Letterbox) -> Pool:
    paths: Sequence[Path] = images.paths

    def read(index: int) -> tuple[Tensor, GroundTruth]:
        picture = read_picture(paths[index])
        truth = images.read_objects(index, picture.size)
        return letterbox(picture, truth)

    keys = [str(path.relative_to(folder)) for path in paths]
    return Pool(keys, np.zeros(len(keys), dtype=np.int64), read)

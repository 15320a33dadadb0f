"""Loaders of classification tasks: built-in data, image folders, and data sets of users."""

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import nn

from haq.errors import UserError
from haq.tasks.base import SplitName, Task
from haq.tasks.classification.digits import CLASS_NAMES, digits_pools
from haq.tasks.classification.task import ClassificationTask
from haq.tasks.items import Split, StoredSplit
from haq.tasks.options import TaskOptions, require_no_transform
from haq.tasks.splits import RULE, Pool, draw_splits
from haq.tasks.transforms import ImageTransform, Transform, describe_transform, resolve_transform

Reader = Callable[[Path, Transform], tuple[Pool, Pool, tuple[str, ...]]]
"""Function from a folder and a transform to the items of its train and val part, and the class names."""


def folder_loader(read: Reader, default: ImageTransform) -> Callable[[str, nn.Module | None, TaskOptions], Task]:
    """Return the loader of a kind of folder with images and classes.

    Args:
        read: Function that reads the folder.
        default: Transform of images, unless the network has its own.

    Returns:
        The loader, see `haq.tasks.loading.Loader`.
    """

    def load(spec: str, model: nn.Module | None, options: TaskOptions) -> Task:
        transform = resolve_transform(model, default, options)
        folder = Path(spec.partition(":")[2]).expanduser()
        return _drawn_task(spec, read(folder, transform), describe_transform(transform), options)

    return load


def load_digits(spec: str, _: nn.Module | None, options: TaskOptions) -> Task:
    """Load the embedded digits.

    Args:
        spec: Name of the data.
        options: Options of splits; those of a transform do not apply.

    Returns:
        The task.

    Raises:
        UserError: An option changes the transform.
    """
    require_no_transform(spec, options)
    transform = {"resize": 16, "interpolation": "bilinear", "scale": "pixel / 16"}
    return _drawn_task(spec, (*digits_pools(), CLASS_NAMES), transform, options)


def user_task(splits: Mapping[SplitName, Split], *, name: str, rule: str) -> ClassificationTask:
    """Create a classification task of the splits of a user.

    Args:
        splits: Items of each split.
        name: Name for the command line and for messages.
        rule: Origin of the splits, for `description`.

    Returns:
        The task.

    Raises:
        UserError: The inputs of the splits have different types.
    """
    stored = {name: split.stored for name, split in splits.items() if isinstance(split, StoredSplit)}
    dtype = stored["calibration"][0].dtype
    for split, (inputs, _) in stored.items():
        if inputs.dtype != dtype:
            raise UserError(f"{name}, {split}: inputs are {inputs.dtype} where those of calibration are {dtype}")
    return ClassificationTask(
        name=name,
        splits=splits,
        num_classes=1 + max(int(targets.max()) for _, targets in stored.values()),
        facts={"splits": {each: {"size": len(split)} for each, split in splits.items()}, "rule": rule},
        exact_classes=False,
    )


def _drawn_task(
    spec: str, pools: tuple[Pool, Pool, tuple[str, ...]], transform: object, options: TaskOptions
) -> ClassificationTask:
    train, val, class_names = pools
    drawn = draw_splits(train, val, options)
    facts = {
        "class_names": list(class_names),
        "splits": {name: items.facts() for name, items in drawn.items()},
        "rule": RULE,
        "seed": options.split_seed,
        "search_from": options.search_from,
        "transform": transform,
    }
    splits = {name: StoredSplit(items) for name, items in drawn.items()}
    return ClassificationTask(name=spec, splits=splits, num_classes=len(class_names), facts=facts)

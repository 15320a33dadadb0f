"""Loaders of detection tasks."""

from torch import nn

from haq.tasks.detection.shapes import CLASS_NAMES, SIDE, shapes_pools
from haq.tasks.detection.task import DetectionTask, heads_of
from haq.tasks.items import StoredSplit
from haq.tasks.options import TaskOptions, require_no_transform
from haq.tasks.splits import RULE, Pool, draw_splits


def load_shapes(spec: str, model: nn.Module | None, options: TaskOptions) -> DetectionTask:
    """Load the synthetic shapes.

    Args:
        spec: Name of the data.
        model: Network, whose attribute `detection` tells what its outputs mean.
        options: Options of splits; those of a transform do not apply.

    Returns:
        The task.

    Raises:
        UserError: An option changes the transform.
    """
    require_no_transform(spec, options)
    transform = {"width": SIDE, "height": SIDE, "scale": "pixel / 255"}
    return drawn_task(spec, shapes_pools(), CLASS_NAMES, model=model, options=options, transform=transform)


def drawn_task(
    spec: str,
    pools: tuple[Pool, Pool],
    class_names: tuple[str, ...],
    *,
    model: nn.Module | None,
    options: TaskOptions,
    transform: object,
) -> DetectionTask:
    """Create a task of images whose splits are drawn at random.

    Args:
        spec: Name of the data.
        pools: Images of the train and of the val part.
        class_names: Names of the classes.
        model: Network, whose attribute `detection` tells what its outputs mean.
        options: Options of splits.
        transform: Description of the transform of images.

    Returns:
        The task.

    Raises:
        UserError: There are too few images.
    """
    drawn = draw_splits(*pools, options)
    return DetectionTask(
        name=spec,
        splits={name: StoredSplit(items) for name, items in drawn.items()},
        facts={
            "splits": {name: items.facts() for name, items in drawn.items()},
            "rule": RULE,
            "seed": options.split_seed,
            "search_from": options.search_from,
            "transform": transform,
        },
        class_names=class_names,
        heads=heads_of(model),
    )

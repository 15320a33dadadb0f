"""Tasks by name, such as `digits`, `imagefolder:DIR` or `package.module:callable`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from haq.errors import UserError, suggestion
from haq.execution.structures import InputKind
from haq.execution.user_code import is_user_code
from haq.tasks.base import Task
from haq.tasks.classification.cifar10 import read_cifar10
from haq.tasks.classification.fashion_mnist import read_fashion_mnist
from haq.tasks.classification.image_folder import read_folder
from haq.tasks.classification.loading import folder_loader, load_digits, user_task
from haq.tasks.detection.folders import load_coco
from haq.tasks.detection.loading import load_shapes
from haq.tasks.language_modelling.loading import load_text, vocabulary_size
from haq.tasks.options import TaskOptions, require_no_transform
from haq.tasks.transforms import CIFAR, GREY, IMAGENET
from haq.tasks.user_data import read_user_data, user_splits

TaskLike = Task | str | Mapping[str, Any]
"""A task, the name of one, or a mapping from names of splits to data sets or loaders."""
Loader = Callable[[str, nn.Module | None, TaskOptions], Task]
"""Function that creates a task from its name, such as `imagefolder:DIR`, a network that may have an attribute
`transform`, and options.
"""


def is_user_data(spec: str) -> bool:
    """Return whether a name is that of a callable of the user, which loading the data calls.

    Args:
        spec: Name of data.

    Returns:
        True for `package.module:callable`; False for tasks of `TASKS`, whose folder may have any name.

    Examples:
        >>> is_user_data("my_data:splits"), is_user_data("imagefolder:data")
        (True, False)
    """
    return not _is_named_task(spec) and is_user_code(spec)


def load_task(spec: str, *, model: nn.Module | None = None, options: TaskOptions | None = None) -> Task:
    """Return the task of a name.

    Images are read on first use, or by `prepare`.

    Args:
        spec: A name of `TASKS`, such as `digits` or `imagefolder:DIR`, or a callable `package.module:callable` that
            returns data sets by split, or a task.
        model: Network that may have an attribute `transform`, which replaces the default transform of images, and, if
            it is a detector, `detection`; None for none.
        options: Options of splits and transforms; the defaults of `TaskOptions` if None.

    Returns:
        The task.

    Raises:
        UserError: The name is unknown, the folder has another layout, the callable fails, or an option does not apply.

    Examples:
        >>> task = load_task("digits")
        >>> task.size("search"), task.size("selection"), task.size("report"), task.num_classes
        (288, 71, 540, 10)
    """
    options = options or TaskOptions()
    name = spec.partition(":")[0]
    if _is_named_task(spec):
        return TASKS[name].load(spec, model, options)
    if not is_user_code(spec):
        if name in TASKS and TASKS[name].needs_folder:
            raise UserError(f"--data {spec!r} names no folder; write {name}:DIR")
        expected = [f"{each}:DIR" if task.needs_folder else each for each, task in TASKS.items()]
        raise UserError(
            f"unknown data {spec!r}{suggestion(name, TASKS)}; expected {', '.join(expected)} or package.module:callable"
            "; data that a run got as an object have to be given again as task="
        )
    require_no_transform(spec, options)
    if options.split_seed:
        raise UserError(f"split_seed draws other splits, and those of {spec} are its own; leave it out")
    made = read_user_data(spec, similar=TASKS)
    return user_task(made, name=spec, rule=f"made by {spec}") if isinstance(made, Mapping) else made


def num_classes_of(spec: str) -> int | None:
    """Return the number of outputs that a built-in network is given for some data.

    Args:
        spec: Name of the data.

    Returns:
        The size of the vocabulary of text; None for other data.

    Raises:
        UserError: The data cannot be read.

    Examples:
        >>> num_classes_of("digits") is None
        True
    """
    count = TASKS[spec.partition(":")[0]].num_classes if _is_named_task(spec) else None
    return None if count is None else count(spec)


def input_kind_of(spec: str) -> InputKind | None:
    """Return what the items of some data are.

    Args:
        spec: Name of the data.

    Returns:
        `tokens` for text, `images` for other data of `TASKS`; None for a user's own data, and unknown names.

    Examples:
        >>> input_kind_of("digits"), input_kind_of("text:data/ptb"), input_kind_of("my_data:splits")
        ('images', 'tokens', None)
    """
    return TASKS[spec.partition(":")[0]].inputs if _is_named_task(spec) else None


def as_task(task: TaskLike) -> Task | str:
    """Make a classification task of a mapping of data sets or loaders.

    Args:
        task: Mapping from names of splits to data sets or loaders; a task or a name is returned unchanged.

    Returns:
        The task, or its name.

    Raises:
        UserError: A split is missing, unknown, empty or of another type, or its items cannot be used.

    Examples:
        >>> import torch
        >>> items = [(torch.zeros(1, 2, 2), 0), (torch.ones(1, 2, 2), 1)]
        >>> as_task({"calibration": items, "search": items, "report": items}).size("search")
        2
    """
    if not isinstance(task, Mapping):
        return task
    return user_task(user_splits(task, "task"), name="task", rule="a mapping of data sets")


@dataclass(frozen=True, slots=True)
class NamedTask:
    """Entry of the table of tasks.

    Attributes:
        load: Function that creates the task.
        needs_folder: Whether a folder follows the name, as in `imagefolder:DIR`.
        inputs: What the items are.
        num_classes: Function from the name to the number of outputs that built-in networks are given for these data;
            None to leave them the number that they have.
    """

    load: Loader
    needs_folder: bool = True
    inputs: InputKind = "images"
    num_classes: Callable[[str], int] | None = None


TASKS: dict[str, NamedTask] = {
    "digits": NamedTask(load_digits, needs_folder=False),
    "cifar10": NamedTask(folder_loader(read_cifar10, CIFAR)),
    "fashion_mnist": NamedTask(folder_loader(read_fashion_mnist, GREY)),
    "imagefolder": NamedTask(folder_loader(read_folder, IMAGENET)),
    "coco": NamedTask(load_coco),
    "shapes": NamedTask(load_shapes, needs_folder=False),
    "text": NamedTask(load_text, inputs="tokens", num_classes=vocabulary_size),
}
"""Tasks by name, the values of `--data`. To add one, write a module in this package and an entry here."""


def _is_named_task(spec: str) -> bool:
    name, _, folder = spec.partition(":")
    return name in TASKS and bool(folder) == TASKS[name].needs_folder

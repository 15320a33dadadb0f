"""What networks are for: data in splits, loss, metric and distance between outputs, behind one protocol."""

from haq.tasks.base import SplitName, Task
from haq.tasks.classification import ClassificationTask
from haq.tasks.loading import TaskLike, as_task, is_user_data, load_task
from haq.tasks.options import TaskOptions

__all__ = [
    "ClassificationTask",
    "SplitName",
    "Task",
    "TaskLike",
    "TaskOptions",
    "as_task",
    "is_user_data",
    "load_task",
]

"""Classification: images with one class each, cross entropy, accuracy."""

from haq.tasks.classification.task import Accuracy, ClassificationTask, chance_warning

__all__ = ["Accuracy", "ClassificationTask", "chance_warning"]

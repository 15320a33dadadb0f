"""Agreement of an exported network's outputs with those of the quantized network."""

from dataclasses import dataclass

from haq.errors import UserError
from haq.execution.structures import Structure, item_count, rebuilt, tensors
from haq.tasks.base import Task
from haq.tasks.optional import PredictingTask


@dataclass(frozen=True, slots=True)
class OutputAgreement:
    """Comparison of outputs of two networks; comparisons of several batches add up.

    Attributes:
        items: Number of items that were compared.
        same_predictions: Number of items for which both networks predict the same; None where outputs are plain values.
        error: Power of the difference.
        signal: Power of the expected outputs.
    """

    items: int = 0
    same_predictions: int | None = 0
    error: float = 0.0
    signal: float = 0.0

    @property
    def predictions(self) -> float | None:
        """Fraction of items with the same predictions; None where outputs are plain values."""
        return None if self.same_predictions is None else self.same_predictions / max(self.items, 1)

    @property
    def noise(self) -> float:
        """Relative output error: power of the difference over the power of the expected outputs."""
        return self.error / (self.signal or 1.0)

    def __add__(self, other: "OutputAgreement") -> "OutputAgreement":
        """Combine the comparisons of two batches."""
        same = None
        if self.same_predictions is not None and other.same_predictions is not None:
            same = self.same_predictions + other.same_predictions
        return OutputAgreement(self.items + other.items, same, self.error + other.error, self.signal + other.signal)


def compare_outputs(task: Task, found: Structure, expected: Structure) -> OutputAgreement:
    """Compare the outputs of two networks for one batch.

    Args:
        task: Task of the network, which defines the distance between outputs.
        found: Outputs for n items.
        expected: Outputs for the same items, in the same structure.

    Returns:
        The comparison.

    Raises:
        UserError: The outputs have other shapes.
    """
    pairs = list(zip(tensors(found), tensors(expected), strict=False))
    if len(list(tensors(found))) != len(list(tensors(expected))) or any(a.shape != b.shape for a, b in pairs):
        shapes = [" and ".join(str(list(x.shape)) for x in tensors(each)) for each in (found, expected)]
        raise UserError(f"the exported network's outputs have the shapes {shapes[0]} instead of {shapes[1]}")
    found = rebuilt(expected, tensors(found))  # some formats have no tuples of one tensor
    distance = task.distance(found, expected)
    same = int(task.same_predictions(found, expected).sum()) if isinstance(task, PredictingTask) else None
    return OutputAgreement(item_count(expected), same, distance.error.item(), distance.signal.item())

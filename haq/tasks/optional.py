"""Optional protocols of tasks: what only some tasks have. Code that uses one checks for it by `isinstance`."""

from typing import Protocol, runtime_checkable

from torch import Generator, Tensor

from haq.execution.structures import Structure
from haq.tasks.base import Batch, SplitName, Task


@runtime_checkable
class GradedTask(Protocol):
    """Optional part of a task in which each item is either right or wrong; the metric is the share that is right."""

    def correct(self, outputs: Structure, targets: Structure) -> Tensor:
        """Return which items of a batch are right.

        Args:
            outputs: Outputs of the network for n items.
            targets: Targets of these items, on the same device.

        Returns:
            Whether each item is right, bool [n].
        """
        ...


@runtime_checkable
class ChanceTask(Protocol):
    """Optional part of a task of which low scores show that something is wrong with the network or the data."""

    def chance_warning(self, score: float, *, items: int) -> str | None:
        """Return a warning if a score is no better than that of an untrained network.

        Args:
            score: Score.
            items: Number of items that it was computed on.

        Returns:
            The warning, as the end of a sentence about the network; None if the score is better.
        """
        ...


@runtime_checkable
class DistributionTask(Protocol):
    """Optional part of a task whose outputs are logits of a distribution; those of other tasks are plain values."""

    def logits(self, outputs: Structure) -> Tensor:
        """Return the logits of a batch of outputs.

        Args:
            outputs: Outputs of the network for n items.

        Returns:
            Logits, float32 [n, classes].
        """
        ...


@runtime_checkable
class ValuedTask(Protocol):
    """Optional part of a task whose distance is, for small changes, a squared difference of values of the outputs."""

    def values(self, outputs: Structure) -> Tensor:
        """Return the values whose squared differences are the error of the distance, to second order.

        Args:
            outputs: Outputs of the network for n items.

        Returns:
            Values [n, values], differentiable with respect to the outputs.
        """
        ...


@runtime_checkable
class PredictingTask(Protocol):
    """Optional part of a task in which outputs stand for predictions, such as classes, that networks can share."""

    def same_predictions(self, outputs: Structure, reference: Structure) -> Tensor:
        """Return for which items two networks predict the same.

        Args:
            outputs: Outputs of a network for n items.
            reference: Outputs of another network for these items, in the same structure.

        Returns:
            Whether the predictions are the same, bool [n].
        """
        ...


@runtime_checkable
class AugmentingTask(Protocol):
    """Optional part of a task whose targets have places in the inputs, which augmentation moves together with them."""

    def augment(self, inputs: Structure, targets: Structure, how: str, generator: Generator) -> Batch:
        """Shift and mirror the inputs of a batch at random.

        Args:
            inputs: Inputs of n items.
            targets: Targets of these items.
            how: `none`, `crop` (shifts), `flip-crop` (shifts and mirroring), or `auto`, which leaves it to the task.
            generator: Random number generator on the CPU.

        Returns:
            Inputs and targets of n items.
        """
        ...


@runtime_checkable
class StatefulTask(Protocol):
    """Optional part of a task whose networks return a state, which is an input of the next batch.

    Batches of the task have initial states in their inputs. What evaluates a whole split, or trains on one, replaces
    them by those of `haq.tasks.carried_state`; what looks at single batches uses the initial ones.
    """

    def streams(self, split: SplitName) -> int | None:
        """Return the number of sequences that the items of a split belong to.

        Args:
            split: Name of the split.

        Returns:
            The number n such that item k continues item k - n in the order of `batches`. In that of `shuffled`, item i
            of a batch continues item i of the batch before. None if there is no state to carry.
        """
        ...

    def state(self, batch: Structure) -> Structure:
        """Return the state in a batch of inputs, or in the outputs of a network.

        Args:
            batch: Inputs or outputs of n items.

        Returns:
            State of these items; the first dimension of each tensor counts items.
        """
        ...

    def with_state(self, inputs: Structure, state: Structure) -> Structure:
        """Replace the state in inputs.

        Args:
            inputs: Inputs of n items.
            state: State of the items that they continue.

        Returns:
            Inputs with this state.
        """
        ...


@runtime_checkable
class RecalibratableTask(Protocol):
    """Optional part of a task that has other items to calibrate on; measurements can then be repeated with them."""

    def with_other_calibration(self) -> tuple[Task, int] | None:
        """Return the task with other calibration items.

        Returns:
            The task, and the number of calibration items that it shares with this one; None if there are no other
            items.
        """
        ...


def float_warning(task: Task, score: float, split: SplitName) -> str | None:
    """Return a warning if the score of the float network is no better than chance.

    Args:
        task: Task of the network.
        score: Score of the float network.
        split: Split that it was computed on.

    Returns:
        The warning; None if the score is better, or if the task is not a `ChanceTask`.
    """
    if not isinstance(task, ChanceTask):
        return None
    warning = task.chance_warning(score, items=task.size(split))
    return f"the float network's {warning}" if warning else None

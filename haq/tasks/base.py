"""The `Task` protocol: data in disjoint splits, a loss, a metric, and a distance between outputs.

Inputs, targets and outputs may be structured, see `haq.execution.structures`. For example, a language model that is
called with keyword arguments has dicts of tensors as inputs; a detector may return a tuple of tensors, a dict, or a
list with one entry for each image.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Generator, Tensor, nn

from haq.execution.structures import Structure
from haq.tasks.distances import Distance
from haq.tasks.metrics import Meter, Metric

SplitName = Literal["train", "calibration", "search", "selection", "report"]
"""Names of splits.

Fine-tuning uses `train` and calibration `calibration`. The reward of a search is computed on `search`; `selection`,
which is optional, chooses among the best policies; `report` is used only for the reported results.
"""
Batch = tuple[Structure, Structure]
"""Inputs and targets of n items."""


@runtime_checkable
class Task(Protocol):
    """Data, loss, metric and distance of what a network was trained for.

    The splits `calibration`, `search` and `report` have at least one item; `train` and `selection` may be missing.
    Calibration may be part of train; `search`, `selection` and `report` should share no items with it or with each
    other. Methods raise UserError for data that cannot be read or that do not fit; the message is shown to users as it
    is. Objects with all methods and properties are accepted as tasks; they need not inherit from this class.
    """

    @property
    def name(self) -> str:
        """Name for the command line and for messages, such as `digits` or `imagefolder:DIR`."""
        ...

    @property
    def metric(self) -> Metric:
        """Name, range, direction and format of the metric; the same each time."""
        ...

    def size(self, split: SplitName) -> int:
        """Return the number of items of a split, without reading them.

        Args:
            split: Name of the split.

        Returns:
            The number of items; 0 if the task does not have the split.
        """
        ...

    def batches(self, split: SplitName, *, batch_size: int) -> Iterator[Batch]:
        """Iterate over a whole split once, in a fixed order.

        Args:
            split: Name of the split; a missing one has no batches.
            batch_size: Number of items of a batch, at least 1; the last batch may be smaller.

        Returns:
            Iterator over (inputs, targets) of n items each, on the CPU. Each call returns the same batches.

        Raises:
            UserError: Items cannot be read.
        """
        ...

    def shuffled(self, split: SplitName, *, batch_size: int, generator: Generator) -> Iterator[Batch]:
        """Iterate over a whole split once, in random order; called once for each epoch over the split.

        Args:
            split: Name of the split; a missing one has no batches.
            batch_size: Number of items of a batch, at least 1; the last batch may be smaller.
            generator: Random number generator on the CPU; the order depends on its state alone.

        Returns:
            Iterator over (inputs, targets) of n items each, on the CPU.

        Raises:
            UserError: Items cannot be read.
        """
        ...

    def example(self) -> Structure:
        """Return the first calibration input as a batch of one item, [1, ...], on the CPU; networks are traced with it.

        Returns:
            Inputs of one item, in the structure of `batches`.

        Raises:
            UserError: The item cannot be read.
        """
        ...

    def prepare(self) -> None:
        """Read the data that a search will use, so that broken files are found before it starts.

        Called once before each search; tasks that read nothing from files may do nothing.

        Raises:
            UserError: Items cannot be read.
        """
        ...

    def validate(self, model: nn.Module) -> None:
        """Run a network on one item and check that its outputs fit the task.

        Called once, after the network is traced and before it is evaluated.

        Args:
            model: Float network, on the CPU and in evaluation mode.

        Raises:
            UserError: The outputs have another structure or shape than the loss, metric and distance take.
        """
        ...

    def loss(self, outputs: Structure, targets: Structure) -> Tensor:
        """Compute the loss that training minimizes.

        Args:
            outputs: Outputs of the network for n items; float tensors are float32.
            targets: Targets of these items, on the same device.

        Returns:
            The mean over the batch, [], differentiable with respect to the outputs.

        Raises:
            UserError: The outputs do not fit, for example since the network returns others while it is trained.
        """
        ...

    def distance(self, outputs: Structure, reference: Structure) -> Distance:
        """Compute the distance of a network's outputs from reference outputs for the same items.

        Called for each batch of an evaluation, with the outputs of the quantized and of the float network, and for each
        training step with those of the teacher as reference.

        Args:
            outputs: Outputs of the network for n items.
            reference: Reference outputs for these items, in the same structure and on the same device.

        Returns:
            The distance, summed over the batch; its divergence is differentiable with respect to the outputs.
        """
        ...

    def meter(self) -> Meter:
        """Return a new meter of the metric, without batches."""
        ...

    def description(self) -> Mapping[str, Any]:
        """Return what a run records about its data: sizes, seeds, transforms, class names, origin of the splits.

        Returns:
            Mapping of plain values that JSON can represent. Runs on the same data have equal descriptions.
        """
        ...


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
    """Optional part of a task that knows which scores show that something is wrong with the network or the data."""

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
            The number n: in the order of `batches`, item k continues item k - n. In that of `shuffled`, item i of a
            batch continues item i of the batch before. None if there is no state to carry.
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

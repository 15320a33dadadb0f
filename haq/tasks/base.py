"""The `Task` protocol: data in disjoint splits, a loss, a metric, and a distance between outputs.

Inputs, targets and outputs may be structured, see `haq.execution.structures`. For example, a language model that is
called with keyword arguments has dicts of tensors as inputs; a detector may return a tuple of tensors, a dict, or a
list with one entry for each image. `haq.tasks.optional` has what only some tasks have.
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
        """Name for the command line and for messages, such as `digits`."""
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

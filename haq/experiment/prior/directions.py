"""Random directions in the outputs of a network whose covariance is the Fisher information of the outputs."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from haq.execution.structures import Structure, rows
from haq.experiment.prior.layer_losses import LossKind
from haq.tasks.distances import centred


@dataclass(frozen=True, slots=True)
class OutputReader:
    """Function that returns the values of outputs whose information is estimated.

    Attributes:
        read: Function from the outputs for n items to values [n, ...].
        is_logits: Whether the values are logits [n, classes] of a distribution. The information of plain values is that
            of a Gaussian of unit variance.
    """

    read: Callable[[Structure], Tensor] = rows
    is_logits: bool = True


LOGITS = OutputReader()
"""Reader of outputs that are logits, of all tensors together."""


@dataclass(frozen=True, slots=True)
class Directions:
    """Random directions in the outputs whose covariance is the Fisher information."""

    loss: LossKind
    outputs: OutputReader
    generator: Generator

    def values(self, outputs: Structure) -> Tensor:
        """Return the values whose Fisher information is estimated.

        Args:
            outputs: Outputs of the network for n items.

        Returns:
            Logits [n, classes], or all values of the outputs [n, values].
        """
        return self.outputs.read(outputs)

    def draw(self, values: Tensor) -> Tensor:
        """Draw a random direction for every image.

        Args:
            values: Result of `values`.

        Returns:
            Directions of the same shape.
        """
        signs = torch.randint(0, 2, values.shape, generator=self.generator).to(values) * 2 - 1
        if not self.outputs.is_logits:
            return signs
        if self.loss == "noise":
            return centred(signs)
        root = values.softmax(dim=1).sqrt()
        return root * signs - root.square() * (root * signs).sum(dim=1, keepdim=True)

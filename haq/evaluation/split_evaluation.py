"""Evaluation of policies on one split without memory of earlier ones, which workers can share."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from haq.evaluation.protocols import Engine, Evaluation
from haq.execution.pools import Shared
from haq.execution.structures import Structure
from haq.policy import PolicyBits
from haq.tasks.base import SplitName, Task
from haq.tasks.predictions import Prediction, predictions


@dataclass(frozen=True, slots=True, eq=False)
class SplitEvaluation:
    """Evaluation of policies on one split of a task.

    Attributes:
        engine: Engine that runs the network.
        task: Task with the data and the metric.
        split: Name of the split.
        batch_size: Number of items of a batch.
        float_outputs: Outputs of the float network for each batch; None to compute them for each policy.
    """

    engine: Engine
    task: Task
    split: SplitName
    batch_size: int
    float_outputs: list[Structure] | None = None

    @torch.no_grad()
    def evaluate(self, bits: PolicyBits) -> Evaluation:
        """Evaluate a policy.

        Args:
            bits: (w_bits, a_bits) of every layer; None for float.

        Returns:
            Score, divergence and relative output error.
        """
        meter, divergence, error, signal, items = self.task.meter(), 0.0, 0.0, 0.0, 0
        for reference, each in zip(self._references(), self.predictions(bits), strict=True):
            meter.update(each.outputs, each.targets)
            distance = self.task.distance(each.outputs, reference)
            divergence += distance.divergence.item()
            error += distance.error.item()
            signal += distance.signal.item()
            items += each.items
        return Evaluation(self.task.metric.score(meter.compute()), divergence / items, error / (signal or 1.0))

    def predictions(self, bits: PolicyBits | None) -> Iterator[Prediction]:
        """Run the network on all batches of the split.

        Args:
            bits: (w_bits, a_bits) of every layer; None for the float network.

        Returns:
            Iterator over the outputs with their targets.
        """
        return predictions(self.engine.runner(bits), self.task, self.split, batch_size=self.batch_size)

    def _references(self) -> Iterable[Structure]:
        stored = self.float_outputs
        return (each.outputs for each in self.predictions(None)) if stored is None else stored


def evaluate_shared(shared: Shared[SplitEvaluation], bits: PolicyBits) -> Evaluation:
    """Evaluate a policy in a worker.

    Args:
        shared: Reference to the evaluation of the split.
        bits: (w_bits, a_bits) of every layer; None for float.

    Returns:
        The evaluation.
    """
    return shared.get().evaluate(bits)

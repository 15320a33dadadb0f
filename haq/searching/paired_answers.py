"""Comparison of policies with the float network, image by image."""

import torch

from haq.evaluation.evaluator import CAPACITY
from haq.evaluation.policy_memory import PolicyMemory
from haq.evaluation.protocols import Engine
from haq.policy import PolicyBits
from haq.searching.confidence import Pairs
from haq.tasks.base import SplitName, Task
from haq.tasks.optional import GradedTask
from haq.tasks.predictions import predictions


class PairedAnswers:
    """Counter of the images of a split that only one of a policy and the float network classifies right.

    Counts are computed once per policy, as long as they are among the last `haq.evaluation.evaluator.CAPACITY`. The
    float network runs before the first policy.

    Args:
        engine: Engine that runs the networks.
        task: Data; a `haq.tasks.optional.GradedTask`.
        split: Name of the split.
        batch_size: Number of images in one forward pass.
    """

    def __init__(self, engine: Engine, task: Task, split: SplitName, *, batch_size: int) -> None:
        self._engine, self._task, self._split, self._batch_size = engine, task, split, batch_size
        self._float: list[torch.Tensor] = []
        self._counted = PolicyMemory[Pairs](CAPACITY)
        self._policies = 0

    @property
    def forward_images(self) -> int:
        """Images that ran through the network for all policies, the float network's pass included."""
        images = self._task.size(self._split)
        return (images + self._policies * (images + self._engine.images_per_policy)) if self._policies else 0

    def recall(self, bits: PolicyBits, pairs: Pairs) -> None:
        """Store the counts of an earlier session.

        Args:
            bits: Bits of the policy.
            pairs: Its counts.
        """
        self._policies += bits not in self._counted
        self._counted.add(bits, pairs)

    def pairs(self, bits: PolicyBits) -> Pairs:
        """Return the counts of a policy.

        Args:
            bits: Bits of the policy.

        Returns:
            The counts.
        """
        found = self._counted.find(bits)
        if found is None:
            self._float = self._float or self._right(None)
            both = zip(self._float, self._right(bits), strict=True)
            counts = [(int((was & ~now).sum()), int((now & ~was).sum()), len(was)) for was, now in both]
            found = Pairs(*map(sum, zip(*counts, strict=True)))
            self.recall(bits, found)
        return found

    def _right(self, bits: PolicyBits | None) -> list[torch.Tensor]:
        """Return whether each image is classified right, [n] for every batch."""
        assert isinstance(self._task, GradedTask), "images are right or wrong"
        run, task = self._engine.runner(bits), self._task
        answered = predictions(run, self._task, self._split, batch_size=self._batch_size)
        return [task.correct(each.outputs, each.targets) for each in answered]


def paired(engine: Engine, task: Task, split: SplitName, bits: PolicyBits, *, batch_size: int) -> Pairs:
    """Count the images of a split that only one of a policy and the float network classifies right.

    Args:
        engine: Engine that runs the networks.
        task: Data; a `haq.tasks.optional.GradedTask`.
        split: Name of the split.
        bits: Bits of the policy.
        batch_size: Number of images in one forward pass.

    Returns:
        The counts.
    """
    return PairedAnswers(engine, task, split, batch_size=batch_size).pairs(bits)

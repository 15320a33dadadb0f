"""Objective of a search: evaluation and reward of policies on one split."""

from envs.choices import IntArray
from envs.reward import accuracy_reward, fidelity_reward
from haq.evaluation.evaluator import Evaluator
from haq.evaluation.protocols import Evaluation, Store
from haq.experiment.problem import Problem
from haq.searching.confidence import Pairs
from haq.searching.paired_answers import PairedAnswers
from haq.tasks.base import SplitName


class SearchObjective:
    """Evaluation and reward of policies on one split.

    Args:
        problem: Network, task and configuration.
        split: Name of the split.
        store: Evaluations of other searches.

    Attributes:
        evaluator: Evaluator on the split.
        images: Number of images of the split.
        paired: Counter of images that only one of a policy and the float network classifies right.
        accuracy_reward: Function from an accuracy to the reward of the paper.
    """

    def __init__(self, problem: Problem, split: SplitName, *, store: Store | None = None) -> None:
        config = problem.config
        engine, task = problem.network.engine, problem.task
        self.evaluator = Evaluator(engine, task, split, batch_size=config.eval_batch, store=store)
        self.images = task.size(split)
        self.paired = PairedAnswers(engine, task, split, batch_size=config.eval_batch)
        self._by_accuracy = config.reward != "fidelity"
        self.accuracy_reward = accuracy_reward(self.evaluator.accuracy_fp32)

    @property
    def forward_images(self) -> int:
        """Images that ran through the network for all evaluations, the float network's passes included."""
        return self.evaluator.forward_images + self.paired.forward_images

    def request(self, bits: IntArray) -> None:
        """Start the evaluation of a policy in a worker, if there is one.

        Args:
            bits: Bits [layer, 2] of weights and inputs.
        """
        self.evaluator.request(bits[:, 0].tolist(), bits[:, 1].tolist())

    def evaluate(self, bits: IntArray) -> Evaluation:
        """Evaluate a policy.

        Args:
            bits: Bits [layer, 2] of weights and inputs.

        Returns:
            The evaluation on the split, marked if the policy fails there.
        """
        return self.evaluator.attempt(bits[:, 0].tolist(), bits[:, 1].tolist())

    def reward(self, evaluation: Evaluation) -> float:
        """Compute the reward of an evaluated policy, of the kind that the configuration selects.

        Args:
            evaluation: Evaluation of the policy on the split.

        Returns:
            The reward.
        """
        return self.accuracy_reward(evaluation.accuracy) if self._by_accuracy else fidelity_reward(evaluation.noise)

    def pairs(self, bits: IntArray) -> Pairs:
        """Count the images that only one of a policy and the float network classifies right.

        Args:
            bits: Bits [layer, 2] of weights and inputs.

        Returns:
            The counts.
        """
        return self.paired.pairs((tuple(bits[:, 0].tolist()), tuple(bits[:, 1].tolist())))

"""What a policy earns on one split."""

from collections.abc import Callable

from envs.choices import IntArray
from envs.reward import accuracy_reward, fidelity_reward
from haq.evaluation.evaluator import Evaluator
from haq.evaluation.protocols import Evaluation, Store
from haq.experiment.problem import Problem
from haq.searching.confidence import PairedAnswers, Pairs
from haq.tasks.base import SplitName


class SearchObjective:
    """Evaluates policies on one split and rewards them as the configuration says; bits are [layer, 2]."""

    def __init__(self, problem: Problem, split: SplitName, *, store: Store | None = None) -> None:
        config = problem.config
        engine, task = problem.network.engine, problem.task
        self.evaluator = Evaluator(engine, task, split, batch_size=config.eval_batch, store=store)
        self.images = task.size(split)
        self.paired = PairedAnswers(engine, task, split, batch_size=config.eval_batch)
        self._by_accuracy = config.reward != "fidelity"
        self.reward: Callable[[float], float] = (
            accuracy_reward(self.evaluator.accuracy_fp32) if self._by_accuracy else fidelity_reward
        )

    @property
    def forward_images(self) -> int:
        """Images that all answers took, float passes included."""
        return self.evaluator.forward_images + self.paired.forward_images

    def evaluation(self, bits: IntArray) -> Evaluation:
        """What a policy is worth here."""
        return self.evaluator.evaluate(bits[:, 0].tolist(), bits[:, 1].tolist())

    def pairs(self, bits: IntArray) -> Pairs:
        """The images here on which a policy and the float network differ in being right."""
        return self.paired.pairs((tuple(bits[:, 0].tolist()), tuple(bits[:, 1].tolist())))

    def score(self, bits: IntArray) -> float:
        """What the reward is made of."""
        evaluation = self.evaluation(bits)
        return evaluation.accuracy if self._by_accuracy else evaluation.noise

    def earned(self, bits: IntArray) -> float:
        """The reward of a policy."""
        return self.reward(self.score(bits))

"""Records of the episodes of a search: made of evaluations, and turned into evaluations again."""

from collections.abc import Mapping

from haq.costs.pricing import cost_in
from haq.errors import MAX_MESSAGE
from haq.evaluation.protocols import Evaluation
from haq.experiment.methods import Proposal
from haq.experiment.problem import Problem
from haq.runs.episode import Episode
from haq.searching.confidence import Pairs
from haq.searching.goals import TOLERANCE, Goal
from haq.searching.objective import SearchObjective


class EpisodeRecords:
    """Conversion between evaluations and the records of their episodes.

    Args:
        problem: The problem.
        objective: Objective on the search split.
        goal: Criterion for the result.
    """

    def __init__(self, problem: Problem, objective: SearchObjective, goal: Goal) -> None:
        self._problem, self._objective, self._goal = problem, objective, goal

    def make(self, number: int, proposal: Proposal, evaluation: Evaluation, losses: Mapping[str, float]) -> Episode:
        """Make the record of an episode, and count images where a confidence is required.

        Args:
            number: Number of the episode.
            proposal: Its policy.
            evaluation: Evaluation of the policy.
            losses: Losses of the search method, by name.

        Returns:
            The record, without its seconds.
        """
        w_bits, a_bits = proposal.bits[:, 0].tolist(), proposal.bits[:, 1].tolist()
        cost = self._problem.priced.table.policy_cost(w_bits, a_bits)
        episode = Episode(
            episode=number,
            w_bits=w_bits,
            a_bits=a_bits,
            cost=cost_in(self._problem.config.objective, cost),
            accuracy=evaluation.accuracy,
            divergence=evaluation.divergence,
            noise=evaluation.noise,
            reward=self._objective.accuracy_reward(evaluation.accuracy),
            score=self._objective.reward(evaluation),
            actor_loss=losses.get("actor_loss"),
            critic_loss=losses.get("critic_loss"),
        )
        if evaluation.failure is not None:
            episode = episode.model_copy(update={"failure": evaluation.failure[:MAX_MESSAGE]})
        if self._problem.config.confidence is None:
            return episode
        is_compared = episode.failure is None and self._goal.excess(episode) <= TOLERANCE
        pairs = self._objective.pairs(proposal.bits) if is_compared else None
        return episode.model_copy(update={"lost": pairs.lost if pairs else None, "won": pairs.won if pairs else None})

    def recall(self, episode: Episode, *, is_counted: bool) -> None:
        """Give the objective the evaluation of an episode of an earlier session, so that it is not run again.

        Args:
            episode: Record of the episode.
            is_counted: As in `haq.evaluation.evaluator.Evaluator.recall`.
        """
        evaluation = Evaluation(episode.accuracy, episode.divergence, episode.noise, episode.failure)
        self._objective.evaluator.recall(episode.w_bits, episode.a_bits, evaluation, is_counted=is_counted)
        if episode.lost is not None and episode.won is not None:
            self._objective.paired.recall(episode.key, Pairs(episode.lost, episode.won, self._objective.images))

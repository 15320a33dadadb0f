"""Goals of a search: criteria for its result, and the order of policies that meet them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from haq.experiment.problem import Problem
from haq.runs.episode import Episode
from haq.searching.confidence import Pairs, confidence_of_drop

MAX_FINALISTS = 5
TOLERANCE = 1e-9
"""Tolerance of accuracy drops: a drop of exactly the limit is within it in spite of rounding."""


class Goal(Protocol):
    """Criterion for the result of a search and order of the policies that meet it.

    All methods depend on episodes alone, so that an interrupted search can be resumed.
    """

    def meets(self, episode: Episode) -> bool:
        """Return whether the policy of an episode may be the result.

        Args:
            episode: An episode.

        Returns:
            True if its policy was evaluated and meets the goal.
        """
        ...

    def merit(self, episode: Episode) -> tuple[float, ...]:
        """Return the sort key of a policy that meets the goal.

        Args:
            episode: An episode that meets the goal.

        Returns:
            Key; larger is better.
        """
        ...

    def excess(self, episode: Episode) -> float:
        """Compute by how much a policy misses the goal.

        Args:
            episode: An episode.

        Returns:
            The excess as a fraction; 0 or less if the goal is not missed.
        """
        ...

    def finalists(self, episodes: Iterable[Episode]) -> list[Episode]:
        """Select a few distinct policies that meet the goal, to be measured on the selection split.

        Args:
            episodes: All episodes.

        Returns:
            The episodes of these policies, each the first of its policy.
        """
        ...

    def against(self, accuracy_fp32: float, images: int) -> "Goal":
        """Return the same goal on other images.

        Args:
            accuracy_fp32: The float network's accuracy on these images, a fraction.
            images: Number of these images.

        Returns:
            The goal.
        """
        ...


@dataclass(frozen=True, slots=True)
class MaximumReward:
    """Goal of the highest reward within every budget.

    Attributes:
        problem: The problem, with its budgets.
    """

    problem: Problem

    def meets(self, episode: Episode) -> bool:
        return episode.failure is None and within_budgets(self.problem, episode)

    def merit(self, episode: Episode) -> tuple[float, ...]:
        return merit(episode)

    def excess(self, episode: Episode) -> float:
        """Compute by how much the most exceeded budget is exceeded, as a fraction of that budget."""
        choice = self.problem.choice
        return float((choice.total(choice.decisions(episode.bits)) / choice.limits).max() - 1)

    def finalists(self, episodes: Iterable[Episode]) -> list[Episode]:
        """Return the episodes of the highest merit, the best first."""
        found: list[Episode] = []
        for episode in episodes:
            if len(found) == MAX_FINALISTS and self.merit(episode) <= self.merit(found[-1]):
                continue
            if self.meets(episode) and all(each.key != episode.key for each in found):
                found = sorted([*found, episode], key=self.merit, reverse=True)[:MAX_FINALISTS]
        return found

    def against(self, accuracy_fp32: float, images: int) -> "MaximumReward":  # noqa: ARG002  budgets need no images
        return self


@dataclass(frozen=True, slots=True)
class MinimumCost:
    """Goal of the lowest cost at an accuracy of at most `limit` below the float network's.

    Attributes:
        problem: The problem, whose budgets hold as well.
        limit: Largest drop of accuracy, a fraction: 0.005 is half a point.
        accuracy_fp32: The float network's accuracy, a fraction.
        images: Number of images that accuracies are measured on.
        confidence: Required confidence that the drop is within the limit, computed by `confidence_of_drop` from `lost`
            and `won` of an episode; None if only the measured drop has to be within the limit.
    """

    problem: Problem
    limit: float
    accuracy_fp32: float
    images: int = 0
    confidence: float | None = None

    def meets(self, episode: Episode) -> bool:
        if episode.failure is not None or self.excess(episode) > TOLERANCE or not within_budgets(self.problem, episode):
            return False
        return self.confidence is None or self.reached(episode) >= self.confidence

    def reached(self, episode: Episode) -> float:
        """Compute the confidence that the true accuracy drop of a policy is within the limit.

        Args:
            episode: An episode with `lost` and `won`.

        Returns:
            The confidence in [0, 1].
        """
        assert episode.lost is not None
        assert episode.won is not None
        return confidence_of_drop(Pairs(episode.lost, episode.won, self.images), self.limit)

    def merit(self, episode: Episode) -> tuple[float, ...]:
        return -episode.cost, episode.score, -episode.noise

    def excess(self, episode: Episode) -> float:
        """Compute how much accuracy is lost beyond the limit, as a fraction."""
        return float(self.accuracy_fp32 - episode.accuracy - self.limit)

    def finalists(self, episodes: Iterable[Episode]) -> list[Episode]:
        """Return the cheapest policy, then the next cheapest that is more accurate than those before it, and so on.

        With a required confidence, policies are compared by their confidence instead of their accuracy, and all such
        policies are returned, as the first few may fail on more images.

        Args:
            episodes: All episodes.

        Returns:
            The episodes of these policies, the cheapest first.
        """
        front: list[tuple[tuple[float, ...], float, Episode]] = []
        for episode in filter(self.meets, episodes):
            merit, margin = self.merit(episode), self._margin(episode)
            if not any(other >= merit and reached >= margin for other, reached, _ in front):
                front = [each for each in front if each[0] >= merit or each[1] > margin]
                front = sorted([*front, (merit, margin, episode)], key=lambda each: each[0], reverse=True)
        found = [episode for _, _, episode in front]
        return found[:MAX_FINALISTS] if self.confidence is None else found

    def against(self, accuracy_fp32: float, images: int) -> "MinimumCost":
        return replace(self, accuracy_fp32=accuracy_fp32, images=images)

    def _margin(self, episode: Episode) -> float:
        return episode.accuracy if self.confidence is None else self.reached(episode)


def goal_of(problem: Problem, accuracy_fp32: float) -> Goal:
    """Create the goal of a search.

    Args:
        problem: The problem, with the settings of the search.
        accuracy_fp32: The float network's accuracy on the search split, a fraction.

    Returns:
        The lowest cost if the settings limit the accuracy drop, else the highest reward.
    """
    points = problem.config.max_accuracy_drop
    if points is None:
        return MaximumReward(problem)
    return MinimumCost(problem, points / 100, accuracy_fp32, problem.task.size("search"), problem.config.confidence)


def merit(episode: Episode) -> tuple[float, float, float]:
    """Return a sort key: a higher score is better, then a smaller output error, then a lower cost.

    Accuracy on a few hundred images is often equal for different good policies, while the errors of their outputs
    differ.

    Args:
        episode: An episode.

    Returns:
        The key; larger is better.
    """
    return episode.score, -episode.noise, -episode.cost


def within_budgets(problem: Problem, episode: Episode) -> bool:
    """Return whether a policy is within every budget and limit of the device.

    Args:
        problem: The problem, with its budgets.
        episode: Episode of the policy.

    Returns:
        True if it is.
    """
    return problem.choice.fits(problem.choice.decisions(episode.bits))

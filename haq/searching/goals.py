"""Goals of a search: which policies may be its result, and which of two is better."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from haq.experiment.problem import Problem
from haq.runs.episode import Episode, distinct
from haq.searching.confidence import Pairs, confidence_of_drop

MAX_FINALISTS = 5
TOLERANCE = 1e-9
"""Accuracies are quotients of counts; a drop of exactly the limit is within it, however it was rounded."""


class Goal(Protocol):
    """What a search is for, decided from its episodes alone, so that an interrupted search can be resumed."""

    def meets(self, episode: Episode) -> bool:
        """Return whether a policy may be the result."""
        ...

    def merit(self, episode: Episode) -> tuple[float, ...]:
        """Return the sort key of policies that meet the goal; the larger one is better."""
        ...

    def excess(self, episode: Episode) -> float:
        """Return by how much a policy misses the goal."""
        ...

    def finalists(self, episodes: Sequence[Episode]) -> list[Episode]:
        """Return the few distinct policies to measure again, of those that meet the goal."""
        ...

    def against(self, accuracy_fp32: float, images: int) -> "Goal":
        """Return the same goal on other images.

        Args:
            accuracy_fp32: The float network's accuracy on these images.
            images: How many they are.
        """
        ...


@dataclass(frozen=True, slots=True)
class MaximumReward:
    """The highest reward within every budget."""

    problem: Problem

    def meets(self, episode: Episode) -> bool:
        return within_budgets(self.problem, episode)

    def merit(self, episode: Episode) -> tuple[float, ...]:
        return merit(episode)

    def excess(self, episode: Episode) -> float:
        """Return by how much the most exceeded budget is exceeded, as a fraction of that budget."""
        choice = self.problem.choice
        return float((choice.total(choice.decisions(episode.bits)) / choice.limits).max() - 1)

    def finalists(self, episodes: Sequence[Episode]) -> list[Episode]:
        """Return the best few, the best first."""
        return sorted(_met(self, episodes), key=self.merit, reverse=True)[:MAX_FINALISTS]

    def against(self, accuracy_fp32: float, images: int) -> "MaximumReward":  # noqa: ARG002  budgets need no images
        return self


@dataclass(frozen=True, slots=True)
class MinimumCost:
    """The lowest cost at an accuracy of at most `limit` below the float network's.

    Attributes:
        problem: The problem, whose budgets hold as well.
        limit: Largest drop of accuracy, a fraction: 0.005 is half a point.
        accuracy_fp32: The float network's accuracy.
        images: Number of images that accuracies are measured on.
        confidence: Confidence with which the images have to show that the drop is within the limit, by
            `confidence_of_drop` of their `lost` and `won`; None for the measured drop alone.
    """

    problem: Problem
    limit: float
    accuracy_fp32: float
    images: int = 0
    confidence: float | None = None

    def meets(self, episode: Episode) -> bool:
        if self.excess(episode) > TOLERANCE or not within_budgets(self.problem, episode):
            return False
        return self.confidence is None or self.reached(episode) >= self.confidence

    def reached(self, episode: Episode) -> float:
        """Return the confidence with which the images show that the drop is within the limit."""
        assert episode.lost is not None
        assert episode.won is not None
        return confidence_of_drop(Pairs(episode.lost, episode.won, self.images), self.limit)

    def merit(self, episode: Episode) -> tuple[float, ...]:
        return -episode.cost, episode.score, -episode.noise

    def excess(self, episode: Episode) -> float:
        """Return how much accuracy is lost beyond the limit."""
        return float(self.accuracy_fp32 - episode.accuracy - self.limit)

    def finalists(self, episodes: Sequence[Episode]) -> list[Episode]:
        """Return the cheapest policy, then the next cheapest that is more accurate than those before it, and so on.

        Where a confidence is asked for, more confidence takes the place of more accuracy, and all such policies are
        returned, as the first few may fail on more images.
        """
        front: list[Episode] = []
        for episode in sorted(_met(self, episodes), key=self.merit, reverse=True):
            if not front or self._margin(episode) > self._margin(front[-1]):
                front.append(episode)
        return front[:MAX_FINALISTS] if self.confidence is None else front

    def against(self, accuracy_fp32: float, images: int) -> "MinimumCost":
        return replace(self, accuracy_fp32=accuracy_fp32, images=images)

    def _margin(self, episode: Episode) -> float:
        return episode.accuracy if self.confidence is None else self.reached(episode)


def goal_of(problem: Problem, accuracy_fp32: float) -> Goal:
    """Return the goal of a configuration; `accuracy_fp32` is the float network's accuracy on the search split."""
    points = problem.config.max_accuracy_drop
    if points is None:
        return MaximumReward(problem)
    return MinimumCost(problem, points / 100, accuracy_fp32, problem.task.size("search"), problem.config.confidence)


def merit(episode: Episode) -> tuple[float, float, float]:
    """Return a sort key: a higher score is better, then a smaller output error, then a lower cost.

    Accuracy on a few hundred images cannot tell good policies apart, and many have the same; their outputs differ.
    """
    return episode.score, -episode.noise, -episode.cost


def within_budgets(problem: Problem, episode: Episode) -> bool:
    """Return whether a policy is within every budget and limit of the device."""
    return problem.choice.fits(problem.choice.decisions(episode.bits))


def _met(goal: Goal, episodes: Iterable[Episode]) -> Iterable[Episode]:
    return (episode for episode in distinct(episodes) if goal.meets(episode))

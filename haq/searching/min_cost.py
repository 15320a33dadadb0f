"""Min-cost search: find the lowest cost at which accuracy drops by no more than a limit.

It is a sequence of searches for the highest reward within a budget. Each budget follows from the earlier results. The
reward does not depend on the budget, so that all budgets share one search method and all evaluations.
"""

from dataclasses import replace

from envs.choices import Budget
from haq.budgets import ResolvedBudget
from haq.costs.pricing import cost_in
from haq.experiment.problem import Problem

RESOLUTION = 0.02
"""Smallest step between budgets, as a fraction of the difference of the larger one and the least possible cost."""
_ROUNDING = 1e-9
PATIENCE, PATIENCE_SHARE = 4, 4
"""Numbers that decide when a budget at which no policy met the goal counts as too low.

It does after as many episodes as there were before this budget, divided by `PATIENCE_SHARE`, but not before `PATIENCE`
episodes. The total number of episodes has no effect, so that a search can be extended.
"""


class Bisection:
    """Bisection of the budget, as a ratio of the 8-bit cost, over the episodes of a search.

    The first ratio is 1, for one episode, which tries the most bits. Each further ratio is the middle between the
    cheapest policy that met the goal and the largest ratio at which none did. It is set as soon as a policy meets the
    goal, or after `PATIENCE` or more episodes without one. When both bounds are closer than `RESOLUTION`, the ratio
    stays slightly below the cheapest policy found.

    Args:
        least: Ratio of the least possible cost.

    Attributes:
        ratio: Budget of the next episode, as a ratio of the 8-bit cost.
        stage: Number of budgets before this one.
        episodes: Number of episodes so far.

    Examples:
        >>> bisection = Bisection(0.2)
        >>> bisection.observe(1.0, met=True), bisection.ratio
        (True, 0.6)
        >>> bisection.observe(0.5, met=True), bisection.ratio
        (True, 0.35)
        >>> [bisection.observe(0.35, met=False) for _ in range(4)], bisection.ratio
        ([False, False, False, True], 0.425)
    """

    def __init__(self, least: float) -> None:
        self.ratio = 1.0
        self.stage = 0
        self._least = self._low = least
        self._high = 1.0
        self.episodes = 0
        self._first = 0

    @property
    def is_over(self) -> bool:
        """Whether a policy of the least possible cost has met the goal."""
        return self.stage > 0 and self._high <= self._least * (1 + _ROUNDING)

    def observe(self, ratio: float, *, met: bool) -> bool:
        """Record an episode.

        Args:
            ratio: Cost of its policy, as a ratio of the 8-bit cost.
            met: Whether the policy met the goal.

        Returns:
            Whether the next episode has another budget.
        """
        self.episodes += 1
        if met and ratio <= self._high:
            self._high = ratio
        elif self.stage and self.episodes - self._first >= max(PATIENCE, self._first // PATIENCE_SHARE):
            self._low = self.ratio
        elif self.stage:
            return False
        self._advance()
        return True

    def _advance(self) -> None:
        if self._high < self._low:  # cheaper than a budget at which nothing was found
            self._low = self._least
        step = RESOLUTION * (self._high - self._least)
        is_open = self._high - self._low > step
        self.ratio = (self._low + self._high) / 2 if is_open else max(self._high - step, self._least)
        self.stage += 1
        self._first = self.episodes


def least_ratio(problem: Problem) -> float:
    """Compute the cost of the cheapest policy within all limits, as a ratio of the 8-bit cost.

    Args:
        problem: The problem.

    Returns:
        The ratio of the objective's cost.
    """
    choice = problem.choice
    return float(choice.total(choice.reserve)[0]) / _baseline(problem)


def with_budget_ratio(problem: Problem, ratio: float) -> Problem:
    """Return the same problem with another budget for the objective's cost.

    Args:
        problem: The problem.
        ratio: The budget, as a ratio of the 8-bit cost.

    Returns:
        The changed problem.
    """
    limit = ratio * _baseline(problem)
    changed = ResolvedBudget(Budget(problem.config.objective, limit), ratio)
    return replace(problem, budgets=(changed, *problem.budgets[1:]), choice=problem.choice.with_limit(limit))


def _baseline(problem: Problem) -> float:
    return cost_in(problem.config.objective, problem.priced.baseline)

"""The dual of the search: the least cost at which accuracy drops by no more than so much.

Every budget on the way is a search as usual, for the most reward within it; which budget comes next follows from what
was found. The reward does not depend on the budget, so that all budgets share one learner and all evaluations.
"""

from dataclasses import replace

from envs.choices import Budget, choices
from haq.budgets import ResolvedBudget
from haq.costs.pricing import cost_in
from haq.experiment.problem import Problem

RESOLUTION = 0.02
"""Budgets that are closer than this part of what the larger has above the least possible cost are not told apart."""
_ROUNDING = 1e-9
PATIENCE, PATIENCE_SHARE = 4, 4
"""A budget at which nothing was found counts as too tight after a quarter as many episodes as came before it, and after
4 at the least. It does not depend on how many are to come, so that a search may be continued with more of them."""


class Bisection:
    """Which ratio of the 8-bit cost to try next; lines of the journal in, in their order.

    The first is 1, for one episode: it leaves only the most bits. After that comes the middle between the cheapest
    policy that met the goal and the largest ratio at which none did: at once when one is found, and when patience ends
    where none is. Once the two have met, it is always a little less than the cheapest policy found.

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
        """Whether a policy of the least possible cost met the goal."""
        return self.stage > 0 and self._high <= self._least * (1 + _ROUNDING)

    def observe(self, ratio: float, *, met: bool) -> bool:
        """Take note of what a policy costs and whether it met the goal; whether the budget changes with it."""
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
    """What the cheapest policy within all limits costs, as a ratio of 8 bits everywhere."""
    choice = problem.choice
    return float(choice.total(choice.reserve)[0]) / _baseline(problem)


def at_ratio(problem: Problem, ratio: float) -> Problem:
    """The same problem with another budget for the objective's cost, in parts of that of 8 bits."""
    objective = problem.config.objective
    tightened = ResolvedBudget(Budget(objective, ratio * _baseline(problem)), ratio)
    budgets = (tightened, *problem.budgets[1:])
    choice = choices(problem.priced.table, [each.budget for each in budgets], problem.allowed)
    return replace(problem, budgets=budgets, choice=choice)


def _baseline(problem: Problem) -> float:
    return cost_in(problem.config.objective, problem.priced.baseline)

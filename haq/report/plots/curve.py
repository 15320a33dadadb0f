"""A journal as arrays: what every episode reached, and the best policy so far by the goal of its search."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haq.budgets import ResolvedBudget
from haq.searching.confidence import Pairs, confidence_of_drop
from haq.tasks.metrics import ACCURACY, Metric

ROUNDING = 1e-9
"""Relative; the same sum in another order is not over the budget."""
LOSS_KEYS = ("critic_loss", "actor_loss")

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Episodes = Sequence[Mapping[str, Any]]
"""Lines of a journal; `actor_loss` and `critic_loss` may be None or missing."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What a search was for: the highest score within a budget, or the least cost at a score of at least `least`."""

    budget: ResolvedBudget | None = None
    """The objective's; None if it is not known."""
    least: float | None = None
    """On the search split."""
    confidence: float | None = None
    """With which the journal's `lost` and `won` have to show that at most `drop` is lost on `images`; None if not."""
    drop: float = 0.0
    images: int = 0

    @property
    def missed(self) -> str:
        """Legend label of policies that miss the goal."""
        if self.least is None:
            return "over budget"
        return "too much lost" if self.confidence is None else "too much may be lost"


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A journal as arrays [episode]; NaN is what was not there."""

    scores: FloatArray
    cost_ratios: FloatArray | None
    """Cost over that of 8 bits; None where no budget is known."""
    within: BoolArray
    """Whether the policy met the goal."""
    best: NDArray[np.int64]
    """Episode of the best policy so far that met the goal; -1 before there is one."""
    losses: Mapping[str, FloatArray]
    noise: FloatArray | None = None
    """On the outputs, where little of it is the reward."""

    def of_best(self, values: FloatArray) -> FloatArray:
        """The values of the best policy so far; NaN before there is one."""
        return np.where(self.best >= 0, values[self.best], np.nan)


def learning_curve(episodes: Episodes, goal: Goal = Goal()) -> Curve:
    """What is drawn of a journal.

    >>> lines = [{"cost": 3.0, "accuracy": 0.9, "score": -1.0}, {"cost": 2.0, "accuracy": 0.8, "score": -2.0}]
    >>> learning_curve(lines).best.tolist(), learning_curve(lines, Goal(least=0.8)).best.tolist()
    ([0, 0], [0, 1])
    """
    costs = np.array([line["cost"] for line in episodes], dtype=np.float64)
    scores = np.array([line["accuracy"] for line in episodes], dtype=np.float64)
    budget = goal.budget
    within = np.ones(len(costs), dtype=np.bool_)
    if goal.least is not None:
        within = scores >= goal.least - ROUNDING
        if goal.confidence is not None:
            within &= np.array([_confidence(line, goal) >= goal.confidence for line in episodes], dtype=np.bool_)
    elif budget is not None:
        within = costs <= budget.budget.limit * (1 + ROUNDING)
    losses = {name: np.array([line.get(name) for line in episodes], dtype=np.float64) for name in LOSS_KEYS}
    return Curve(
        scores=scores,
        cost_ratios=None if budget is None else costs / budget.budget.limit * budget.ratio,
        within=within,
        best=np.array(list(_best(episodes, within, by_cost=goal.least is not None)), dtype=np.int64),
        losses={name: values for name, values in losses.items() if not np.isnan(values).all()},
        noise=_rewarded_noise(episodes),
    )


def _confidence(line: Mapping[str, Any], goal: Goal) -> float:
    """The confidence that a policy reached; 0 where its images were not compared one by one, as it lost too much."""
    if line.get("lost") is None or line.get("won") is None:
        return 0.0
    return confidence_of_drop(Pairs(line["lost"], line["won"], goal.images), goal.drop)


def learning_subtitle(curve: Curve, *, metric: Metric = ACCURACY, winner: int | None = None) -> str:
    """How long the search was and what it found.

    >>> lines = [{"cost": 3.0, "accuracy": 0.90, "score": -0.1}, {"cost": 2.0, "accuracy": 0.95, "score": 0.4}]
    >>> learning_subtitle(learning_curve(lines))
    '2 episodes  ·  best so far: episode 1, accuracy 95.0 % on the search split'
    """
    count = len(curve.best)
    shown = f"{count} episode{'s' if count > 1 else ''}  ·  "
    place = int(curve.best[-1]) if winner is None else winner
    if place < 0:
        return f"{shown}no policy met the goal"
    name = "best so far" if winner is None else "policy found"
    return f"{shown}{name}: episode {place}, {metric.name} {metric.text(curve.scores[place])} on the search split"


def _best(episodes: Episodes, within: BoolArray, *, by_cost: bool) -> Iterator[int]:
    """The same order as that of the search."""
    merit, best = (-np.inf, 0.0, 0.0), -1
    for place, (line, is_within) in enumerate(zip(episodes, within, strict=True)):
        score, cost, noise = line["score"], line["cost"], line.get("noise", 0.0)
        candidate = (-cost, score, -noise) if by_cost else (score, -noise, -cost)
        if is_within and candidate > merit:
            merit, best = candidate, place
        yield best


def _rewarded_noise(episodes: Episodes) -> FloatArray | None:
    noise, score = (np.array([line.get(name, np.nan) for line in episodes], dtype=float) for name in ("noise", "score"))
    return noise if np.allclose(score, -noise, atol=1e-12) and (noise > 0).all() else None

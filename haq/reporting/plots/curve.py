"""Data of a learning curve: the journal of a search as arrays, and the best policy so far."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import nan

import numpy as np
from numpy.typing import NDArray

from haq.budgets import ResolvedBudget
from haq.runs.episode import Episode
from haq.searching.confidence import Pairs, confidence_of_drop
from haq.tasks.metrics import ACCURACY, Metric

ROUNDING = 1e-9
"""Relative tolerance of sums: the same sum in another order is not over the budget."""

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Target:
    """Goal of a search: the highest score within a budget, or the lowest cost at a score of at least `least`.

    Attributes:
        budget: The objective's budget; None if it is not known.
        least: Least score on the search split, of a min-cost search.
        confidence: Required confidence, computed from an episode's `lost` and `won`, that accuracy on `images` drops by
            at most `drop`; None if none is required.
        drop: Largest drop of accuracy, a fraction.
        images: Number of search images.
    """

    budget: ResolvedBudget | None = None
    least: float | None = None
    confidence: float | None = None
    drop: float = 0.0
    images: int = 0

    @property
    def missed(self) -> str:
        """Legend label of policies that miss the target."""
        if self.least is None:
            return "over budget"
        return "too much lost" if self.confidence is None else "too much may be lost"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Results of a search besides its episodes.

    Attributes:
        winner: Episode of the policy found; None while there is none.
        score_fp32: The float network's score on the search split.
        report: Scores on the report split by name of the network.
        metric: Metric of the task.
    """

    winner: int | None = None
    score_fp32: float | None = None
    report: Mapping[str, float] = field(default_factory=dict)
    metric: Metric = ACCURACY


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """The journal of a search as arrays [episode]; NaN stands for a missing value.

    Attributes:
        scores: Score on the search split.
        cost_ratios: Cost over that of 8 bits; None if no budget is known.
        within: Whether the policy met the target.
        best: Episode of the best policy so far that met the target; -1 before there is one.
        losses: Losses of the agent by name, if it has any.
        noise: Relative output error (1/SQNR); None if the reward is not computed from it.
    """

    scores: FloatArray
    cost_ratios: FloatArray | None
    within: BoolArray
    best: NDArray[np.int64]
    losses: Mapping[str, FloatArray]
    noise: FloatArray | None = None

    def of_best(self, values: FloatArray) -> FloatArray:
        """Select the values of the best policy so far.

        Args:
            values: Values of all episodes, [episode].

        Returns:
            Value of the best policy up to each episode, [episode]; NaN before there is one.
        """
        return np.where(self.best >= 0, values[self.best], np.nan)


def learning_curve(episodes: Iterable[Episode], target: Target = Target()) -> Curve:
    """Convert the episodes of a search to arrays.

    Args:
        episodes: All episodes, in order; they are read once.
        target: Goal of the search, by which the best policy is chosen.

    Returns:
        The arrays.
    """
    rows = np.fromiter((_row(episode, target) for episode in episodes), dtype=(np.float64, len(_COLUMNS)))
    columns = dict(zip(_COLUMNS, rows.T, strict=True))
    costs, scores, budget = columns["cost"], columns["accuracy"], target.budget
    within = np.ones(len(costs), dtype=np.bool_)
    if target.least is not None:
        within = scores >= target.least - ROUNDING
        if target.confidence is not None:
            within &= columns["confidence"] >= target.confidence
    elif budget is not None:
        within = costs <= budget.budget.limit * (1 + ROUNDING)
    within &= columns["failed"] == 0
    losses = {name: columns[name] for name in ("critic_loss", "actor_loss")}
    return Curve(
        scores=scores,
        cost_ratios=None if budget is None else costs / budget.budget.limit * budget.ratio,
        within=within,
        best=np.array(list(_best(columns, within, by_cost=target.least is not None)), dtype=np.int64),
        losses={name: values for name, values in losses.items() if not np.isnan(values).all()},
        noise=_rewarded_noise(columns["score"], columns["noise"]),
    )


_COLUMNS = ("cost", "accuracy", "noise", "score", "critic_loss", "actor_loss", "failed", "confidence")


def _row(episode: Episode, target: Target) -> tuple[float, ...]:
    """Return the numbers of an episode in the order of `_COLUMNS`; NaN stands for a missing loss."""
    critic_loss, actor_loss = (nan if loss is None else loss for loss in (episode.critic_loss, episode.actor_loss))
    confidence = 0.0 if target.confidence is None else _confidence(episode, target)
    failed = float(episode.failure is not None)
    return (
        episode.cost,
        episode.accuracy,
        episode.noise,
        episode.score,
        critic_loss,
        actor_loss,
        failed,
        confidence,
    )


def _confidence(episode: Episode, target: Target) -> float:
    """Return the confidence that a policy reached; 0 if it lost so much that its images were not compared."""
    if episode.lost is None or episode.won is None:
        return 0.0
    return confidence_of_drop(Pairs(episode.lost, episode.won, target.images), target.drop)


def learning_subtitle(curve: Curve, outcome: Outcome = Outcome()) -> str:
    """Summarize the length of a search and its best policy in one line.

    Args:
        curve: Episodes of the search, at least one.
        outcome: Results of the search.

    Returns:
        The line.
    """
    count = len(curve.best)
    shown = f"{count} episode{'s' if count > 1 else ''}  ·  "
    place = int(curve.best[-1]) if outcome.winner is None else outcome.winner
    if place < 0:
        return f"{shown}no policy met the goal"
    name = "best so far" if outcome.winner is None else "policy found"
    score = outcome.metric.text(curve.scores[place])
    return f"{shown}{name}: episode {place}, {outcome.metric.name} {score} on the search split"


def _best(columns: Mapping[str, FloatArray], within: BoolArray, *, by_cost: bool) -> Iterator[int]:
    """Yield the best episode so far, compared in the same way as by the search."""
    merit, best = (-np.inf, 0.0, 0.0), -1
    values = (columns[name].tolist() for name in ("score", "cost", "noise"))
    for place, (score, cost, noise, is_within) in enumerate(zip(*values, within.tolist(), strict=True)):
        candidate = (-cost, score, -noise) if by_cost else (score, -noise, -cost)
        if is_within and candidate > merit:
            merit, best = candidate, place
        yield best


def _rewarded_noise(score: FloatArray, noise: FloatArray) -> FloatArray | None:
    return noise if np.allclose(score, -noise, atol=1e-12) and (noise > 0).all() else None

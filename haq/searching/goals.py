"""What a search is after: when a policy may be its answer, and which of two is the better one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, Protocol

import numpy as np

from envs.choices import IntArray
from haq.experiment.problem import Problem
from haq.searching.confidence import Pairs, confidence_of_drop

Line = dict[str, Any]
"""One line of the journal."""
FINALISTS = 5
TOLERANCE = 1e-9
"""Accuracies are quotients of counts; a drop of exactly the limit is within it, however it was rounded."""


class Goal(Protocol):
    """Reads lines of the journal, and nothing else, so that an interrupted search can go on."""

    def meets(self, line: Line) -> bool:
        """Whether a policy may be the answer."""
        ...

    def merit(self, line: Line) -> tuple[float, ...]:
        """Of two policies that meet the goal the one with more is better."""
        ...

    def excess(self, line: Line) -> float:
        """By how much a policy misses the goal."""
        ...

    def finalists(self, lines: Sequence[Line]) -> list[Line]:
        """The few distinct policies that are worth another look, of those that meet the goal."""
        ...

    def against(self, accuracy_fp32: float, images: int) -> "Goal":
        """The same goal on so many other images, on which the float network has this accuracy."""
        ...


@dataclass(frozen=True, slots=True)
class MostReward:
    """The most reward within every budget."""

    problem: Problem

    def meets(self, line: Line) -> bool:
        return self.problem.choice.fits(decided(self.problem, line))

    def merit(self, line: Line) -> tuple[float, ...]:
        return merit(line)

    def excess(self, line: Line) -> float:
        """By how much the worst of the budgets is exceeded, in parts of that budget."""
        choice = self.problem.choice
        return float((choice.total(decided(self.problem, line)) / choice.limits).max() - 1)

    def finalists(self, lines: Sequence[Line]) -> list[Line]:
        """The best, the very best first."""
        met = (line for line in distinct(lines) if self.meets(line))
        return sorted(met, key=self.merit, reverse=True)[:FINALISTS]

    def against(self, accuracy_fp32: float, images: int) -> "MostReward":  # noqa: ARG002  a budget is the same on all
        return self


@dataclass(frozen=True, slots=True)
class LeastCost:
    """The least cost at an accuracy of at most `limit` below the float network's: the dual of `MostReward`.

    With a `confidence`, the images have to show that, by `confidence_of_drop` of their `lost` and `won`.
    """

    problem: Problem
    limit: float
    """A fraction: 0.005 is half a point."""
    accuracy_fp32: float
    images: int = 0
    confidence: float | None = None

    def meets(self, line: Line) -> bool:
        if self.excess(line) > TOLERANCE or not self.problem.choice.fits(decided(self.problem, line)):
            return False
        return self.confidence is None or self.reached(line) >= self.confidence

    def reached(self, line: Line) -> float:
        """The confidence at which the images show that a policy loses no more than the limit."""
        return confidence_of_drop(Pairs(line["lost"], line["won"], self.images), self.limit)

    def merit(self, line: Line) -> tuple[float, ...]:
        return -line["cost"], line["score"], -line["noise"]

    def excess(self, line: Line) -> float:
        """How much accuracy is lost beyond the limit."""
        return float(self.accuracy_fp32 - line["accuracy"] - self.limit)

    def finalists(self, lines: Sequence[Line]) -> list[Line]:
        """The cheapest, and from there on the next one that is more accurate; the first few of these.

        Where a confidence is asked for, the next one that reaches more of it, and all of them: on more images the first
        few may fail.
        """
        front: list[Line] = []
        margin = itemgetter("accuracy") if self.confidence is None else self.reached
        for line in sorted(filter(self.meets, distinct(lines)), key=self.merit, reverse=True):
            if not front or margin(line) > margin(front[-1]):
                front.append(line)
        return front[:FINALISTS] if self.confidence is None else front

    def against(self, accuracy_fp32: float, images: int) -> "LeastCost":
        return replace(self, accuracy_fp32=accuracy_fp32, images=images)


def merit(line: Line) -> tuple[float, float, float]:
    """A higher score is better; of equal ones, outputs closer to the float network's; of equal outputs, less cost.

    Accuracy on a few hundred images cannot tell good policies apart, and many tie at the best; their outputs do differ.
    """
    return line["score"], -line["noise"], -line["cost"]


def distinct(lines: Sequence[Line]) -> Iterator[Line]:
    """Every policy once, the first time that it was tried."""
    first: dict[tuple[int, ...], Line] = {}
    for line in lines:
        first.setdefault((*line["w_bits"], *line["a_bits"]), line)
    yield from first.values()


def decided(problem: Problem, line: Line) -> IntArray:
    """The bits [decision, 2] of a line, which has them by layer."""
    bits = np.array([line["w_bits"], line["a_bits"]], dtype=np.int64).T
    return bits[list(problem.choice.layer_of_decision)]

"""How sure one may be, from so many images, that a policy loses no more accuracy than it should."""

from math import ceil, inf, sqrt
from typing import NamedTuple

import torch
from scipy.stats import binomtest, norm

from haq.evaluation.protocols import Engine
from haq.policy import PolicyBits
from haq.tasks.base import GradedTask, SplitName, Task
from haq.tasks.predictions import predictions

METHOD = "score test of a difference of paired proportions (Tango 1998), continuity corrected, one-sided"
CONFIDENCE = 0.95
"""Of intervals of accuracies."""


class Interval(NamedTuple):
    """Where the true accuracy lies, as a fraction, with a confidence."""

    low: float
    high: float
    confidence: float
    method: str


def accuracy_interval(accuracy: float, images: int) -> Interval:
    """The score interval of a proportion (E. B. Wilson, Journal of the American Statistical Association 22, 1927).

    It holds for one accuracy by itself. Two policies on the same images are told apart better than their intervals are.

    >>> low, high, *_ = accuracy_interval(0.9, 100)
    >>> round(low, 3), round(high, 3)
    (0.826, 0.945)
    """
    found = binomtest(round(accuracy * images), images).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(float(found.low), float(found.high), CONFIDENCE, "Wilson score")


class Pairs(NamedTuple):
    """Images on which the float network and a policy differ in being right."""

    lost: int
    """Only the float network is right."""
    won: int
    """Only the policy is."""
    images: int


def confidence_of_drop(pairs: Pairs, limit: float) -> float:
    """The confidence in [0, 1] that the true accuracy drops by no more than `limit`, a fraction.

    One minus the p-value of the hypothesis that it drops by `limit` or more. The variance is the one under that
    hypothesis, with the probability of a win estimated by maximum likelihood (T. Tango, Statistics in Medicine 17,
    1998, pages 891 to 908). For continuity one more image counts as lost: without it, few images that all agree would
    say too much.

    >>> round(confidence_of_drop(Pairs(lost=0, won=0, images=1000), 0.005), 3)
    0.964
    >>> round(confidence_of_drop(Pairs(lost=5, won=0, images=1000), 0.005), 3)
    0.327
    """
    lost, won, images = pairs
    a, b = 2 * images, (2 * images - lost + won) * limit - lost - won
    won_probability = (sqrt(max(0.0, b * b + 4 * a * won * limit * (1 - limit))) - b) / (2 * a)
    variance = images * (2 * won_probability + limit * (1 - limit))
    excess = lost - won + 1 - images * limit
    return float(norm.sf(excess / sqrt(variance) if variance > 0 else inf * excess))


def images_needed(limit: float, confidence: float) -> int:
    """Number of images at which a policy that answers like the float network shows a drop of at most `limit`, above 0.

    >>> images_needed(0.005, 0.95)
    894
    >>> confidence_of_drop(Pairs(0, 0, 894), 0.005) >= 0.95 > confidence_of_drop(Pairs(0, 0, 893), 0.005)
    True
    """
    # With n images and x = n limit, (x - 1) / sqrt(x (1 - limit)) has to reach the quantile of the confidence.
    half = float(norm.ppf(confidence)) * sqrt(1 - limit) / 2
    return ceil((half + sqrt(half * half + 1)) ** 2 / limit)


class PairedAnswers:
    """Counts the images of a split on which policies and the float network differ in being right, for each policy once.

    The task is a `haq.tasks.base.GradedTask`. The float network runs when the first policy is asked for.
    """

    def __init__(self, engine: Engine, task: Task, split: SplitName, *, batch_size: int) -> None:
        self._engine, self._task, self._split, self._batch_size = engine, task, split, batch_size
        self._float: list[torch.Tensor] = []
        self._known: dict[PolicyBits, Pairs] = {}

    @property
    def forward_images(self) -> int:
        """The images that running all policies takes, the float pass included."""
        images = self._task.size(self._split)
        return (images + len(self._known) * (images + self._engine.images_per_policy)) if self._known else 0

    def recall(self, bits: PolicyBits, pairs: Pairs) -> None:
        """Take over what an earlier session counted."""
        self._known[bits] = pairs

    def pairs(self, bits: PolicyBits) -> Pairs:
        """The count of a policy."""
        if bits not in self._known:
            self._float = self._float or self._right(None)
            both = zip(self._float, self._right(bits), strict=True)
            counts = [(int((was & ~now).sum()), int((now & ~was).sum()), len(was)) for was, now in both]
            self._known[bits] = Pairs(*map(sum, zip(*counts, strict=True)))
        return self._known[bits]

    def _right(self, bits: PolicyBits | None) -> list[torch.Tensor]:
        """Return whether each image is answered right [n], by batch."""
        assert isinstance(self._task, GradedTask), "images are right or wrong"
        run, task = self._engine.outputs(bits), self._task
        answered = predictions(run, self._task, self._split, batch_size=self._batch_size)
        return [task.correct(each.outputs, each.targets) for each in answered]


def paired(engine: Engine, task: Task, split: SplitName, bits: PolicyBits, *, batch_size: int) -> Pairs:
    """Run the float network and a policy over a split of a task whose items are right or wrong."""
    return PairedAnswers(engine, task, split, batch_size=batch_size).pairs(bits)

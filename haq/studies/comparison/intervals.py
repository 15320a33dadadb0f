"""Confidence intervals of paired differences, and what may be said from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Literal

from scipy.stats import t as student

MARGIN = 0.002
"""A method that loses less than this in accuracy, 0.2 points, is not behind."""
Verdict = Literal["ahead", "not behind", "behind", "open"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean difference and where the true one lies with the confidence that was asked for."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def verdict(self) -> Verdict:
        """`ahead` and `behind` where the interval excludes 0, `not behind` where it excludes a loss of `MARGIN`.

        >>> Interval(0.01, 0.005, 0.015, 10).verdict, Interval(0.0, -0.001, 0.001, 10).verdict
        ('ahead', 'not behind')
        >>> Interval(-0.01, -0.015, -0.005, 10).verdict, Interval(0.01, -0.02, 0.04, 10).verdict
        ('behind', 'open')
        """
        if self.low > 0:
            return "ahead"
        if self.low > -MARGIN:
            return "not behind"
        return "behind" if self.high < 0 else "open"


def paired_interval(
    differences: Sequence[float], *, comparisons: int = 1, confidence: float = 0.95, resolution: float = 0.0
) -> Interval:
    """Student's interval of the mean of paired differences, by Bonferroni for so many comparisons at once.

    `resolution` is the step that the compared numbers come in, one image for accuracies: a mean is known no better than
    the difference of two rounded numbers is, with a variance of a sixth of its square. That does not shrink with their
    number, as equal policies are rounded alike. Raises ValueError for fewer than two differences.

    >>> interval = paired_interval([1.0, 2.0, 3.0])
    >>> round(interval.low, 2), interval.mean, round(interval.high, 2)
    (-0.48, 2.0, 4.48)
    """
    n = len(differences)
    if n < 2:
        raise ValueError(f"an interval takes at least two differences, got {n}")
    quantile = float(student.ppf(1 - (1 - confidence) / (2 * comparisons), n - 1))
    centre, half = mean(differences), quantile * max(stdev(differences) / n**0.5, resolution / 6**0.5)
    return Interval(centre, centre - half, centre + half, n)

"""Confidence intervals of paired differences, and verdicts derived from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Literal

from scipy.stats import t as student

MARGIN = 0.002
"""Loss of accuracy, 0.2 points, below which a method counts as not behind."""
Verdict = Literal["ahead", "not behind", "behind", "open"]


@dataclass(frozen=True, slots=True)
class Interval:
    """Confidence interval of a mean difference.

    Attributes:
        mean: Mean of the sample.
        low: Lower end of the interval.
        high: Upper end.
        n: Size of the sample.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def verdict(self) -> Verdict:
        """`ahead` or `behind` if the interval excludes 0, `not behind` if it excludes a loss of `MARGIN`, else `open`.

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
    """Compute Student's interval of the mean of paired differences, with Bonferroni's correction.

    Args:
        differences: The sample.
        comparisons: Number of comparisons that are made at once.
        confidence: Probability that all of them cover the true mean.
        resolution: Step of the compared numbers, one image for accuracies. The standard error of the mean is at least
            that of the difference of two rounded numbers, resolution / sqrt(6). It does not shrink with the size of the
            sample, as equal policies are rounded alike.

    Returns:
        The interval.

    Raises:
        ValueError: There are fewer than two differences.

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

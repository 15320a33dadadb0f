"""Confidence intervals of accuracies, and tests of differences between two networks on the same images."""

from math import ceil, inf, sqrt
from typing import NamedTuple

from scipy.stats import binomtest, norm

from haq.runs.summary import Interval

METHOD = "score test of a difference of paired proportions (Tango 1998), continuity corrected, one-sided"
CONFIDENCE = 0.95
"""Confidence level of the intervals of accuracies."""


def accuracy_interval(accuracy: float, images: int) -> Interval:
    """Compute the score interval of a proportion (E. B. Wilson, Journal of the American Statistical Association, 1927).

    It holds for one accuracy by itself. For two policies on the same images, a paired test is more precise than a
    comparison of their intervals.

    Args:
        accuracy: Fraction of images that are classified right.
        images: Number of images.

    Returns:
        The interval, as fractions.

    Examples:
        >>> interval = accuracy_interval(0.9, 100)
        >>> round(interval.low, 3), round(interval.high, 3)
        (0.826, 0.945)
    """
    found = binomtest(round(accuracy * images), images).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(low=float(found.low), high=float(found.high), confidence=CONFIDENCE, method="Wilson score")


class Pairs(NamedTuple):
    """Numbers of images that only one of two networks, the float network and a policy, classifies right."""

    lost: int
    """Number of images that only the float network classifies right."""
    won: int
    """Number of images that only the policy classifies right."""
    images: int
    """Number of all images."""


def confidence_of_drop(pairs: Pairs, limit: float) -> float:
    """Compute the confidence that the true accuracy drops by no more than a limit.

    One minus the p-value of the hypothesis that it drops by `limit` or more. The variance is the one under that
    hypothesis, with the probability of a win estimated by maximum likelihood (T. Tango, Statistics in Medicine 17,
    1998, pages 891 to 908). As a continuity correction one more image counts as lost: without it, few images that all
    agree would give too much confidence.

    Args:
        pairs: Counts of the images.
        limit: Drop of accuracy, a fraction.

    Returns:
        The confidence in [0, 1].

    Examples:
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
    """Compute the number of images needed to show a limited accuracy drop, for a policy without lost and won images.

    Args:
        limit: Drop of accuracy, a fraction above 0.
        confidence: Required confidence in [0.5, 1).

    Returns:
        The smallest sufficient number of images.

    Examples:
        >>> images_needed(0.005, 0.95)
        894
        >>> confidence_of_drop(Pairs(0, 0, 894), 0.005) >= 0.95 > confidence_of_drop(Pairs(0, 0, 893), 0.005)
        True
    """
    # With n images and x = n limit, (x - 1) / sqrt(x (1 - limit)) has to reach the quantile of the confidence.
    half = float(norm.ppf(confidence)) * sqrt(1 - limit) / 2
    return ceil((half + sqrt(half * half + 1)) ** 2 / limit)

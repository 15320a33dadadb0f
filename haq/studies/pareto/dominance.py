"""Points (cost, score) that no other point dominates, and the area that they dominate.

Less cost and a higher score are better.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

Point = tuple[float, float]
"""Cost and score."""


def non_dominated(points: Iterable[Point]) -> list[int]:
    """Return the indices of the points on the Pareto front.

    One point dominates another if it costs no more and scores no less, and the two differ.

    Args:
        points: (cost, score) of each candidate.

    Returns:
        Indices of the points that no other dominates, in order of increasing cost; of equal points the first.

    >>> non_dominated([(2.0, 0.9), (1.0, 0.8), (2.0, 0.7), (3.0, 0.9)])
    [1, 0]
    """
    numbered = sorted(enumerate(points), key=lambda each: (each[1][0], -each[1][1], each[0]))
    kept: list[int] = []
    best = float("-inf")
    for place, (_, score) in numbered:
        if score > best:
            kept.append(place)
            best = score
    return kept


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """Return the area that points dominate, bounded by a reference point.

    The measure of Zitzler and Thiele (PPSN 1998), in two dimensions.

    Args:
        points: (cost, score) of each candidate.
        reference: Largest cost and lowest score. Points that cost more or score less add nothing.

    Returns:
        Area of all (cost, score) that dominate the reference and that some point dominates.

    >>> hypervolume([(1.0, 0.5), (2.0, 1.0)], (4.0, 0.0))
    2.5
    """
    inside = [(cost, score) for cost, score in points if cost < reference[0] and score > reference[1]]
    corners = [inside[place] for place in non_dominated(inside)] + [reference]
    return sum((end - cost) * (score - reference[1]) for (cost, score), (end, _) in pairwise(corners))

"""What two goals leave: points that no other beats in both, and the area that they dominate.

Points are (cost, score): less of the first and more of the second is better.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

Point = tuple[float, float]


def front(points: Iterable[Point]) -> list[int]:
    """The places of the points that no other dominates, the cheapest first; of equal points the first.

    One point dominates another if it costs no more and scores no less, and the two differ.

    >>> front([(2.0, 0.9), (1.0, 0.8), (2.0, 0.7), (3.0, 0.9)])
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
    """The area of all (cost, score) that some point dominates and that dominate the reference point.

    The measure of Zitzler and Thiele (PPSN 1998), in two dimensions. The reference is the worst of both worlds: points
    that cost more, or score less, add nothing.

    >>> hypervolume([(1.0, 0.5), (2.0, 1.0)], (4.0, 0.0))
    2.5
    """
    inside = [(cost, score) for cost, score in points if cost < reference[0] and score > reference[1]]
    corners = [inside[place] for place in front(inside)] + [reference]
    return sum((end - cost) * (score - reference[1]) for (cost, score), (end, _) in pairwise(corners))

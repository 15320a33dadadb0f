"""Who wins: the best few policies of a search, measured once more on images that no reward was made of.

The best of many policies on a few hundred images owes part of its place to these images. Each finalist is judged by
what is known of it on the images of the search and of the selection split together, every image counting the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from haq.searching.goals import Goal, LeastCost, Line
from haq.searching.objective import SearchObjective

_POOLED: tuple[str, ...] = ("accuracy", "noise", "score")
_COUNTED: tuple[str, ...] = ("lost", "won")
"""What a search that has to reach a confidence counts; see `haq.searching.confidence.Pairs`."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The winner of a search, and what it took to name it."""

    winner: Line
    """As the journal has it."""
    finalists: tuple[dict[str, Any], ...] = ()
    """Episode, cost and accuracies, in the order in which they stood before; none without a selection split."""
    accuracy: float | None = None
    """The winner's on the selection split."""
    accuracy_fp32: float | None = None
    images: int = 0
    evaluations: int = 0
    forward_images: int = 0
    confidence: float | None = None
    """What search and selection images together reach, that no more accuracy is lost; None where none was asked for."""


def select(goal: Goal, lines: Sequence[Line], search: SearchObjective, selection: SearchObjective | None) -> Selection:
    """The winner among the finalists of all lines, of which at least one meets the goal.

    Without a selection split it is the one with most merit in the search. With one, the finalist with most merit on all
    images; where none meets the goal on these, the one that misses it by least.
    """
    finalists = goal.finalists(lines)
    if selection is None:
        winner = max(finalists, key=goal.merit)
        return Selection(winner, confidence=_confidence(goal, winner))
    seen = [_again(line, selection) for line in finalists]
    pooled = [_pooled(line, again, search, selection) for line, again in zip(finalists, seen, strict=True)]
    accuracy_fp32 = _mean(search.evaluator.accuracy_fp32, selection.evaluator.accuracy_fp32, search, selection)
    on_all = goal.against(accuracy_fp32, search.images + selection.images)
    place = _best(on_all, pooled)
    return Selection(
        finalists[place],
        finalists=tuple(_facts(line, again) for line, again in zip(finalists, seen, strict=True)),
        accuracy=seen[place]["accuracy"],
        accuracy_fp32=selection.evaluator.accuracy_fp32,
        images=selection.images,
        evaluations=selection.evaluator.evaluations,
        forward_images=selection.forward_images,
        confidence=_confidence(on_all, pooled[place]),
    )


def _confidence(goal: Goal, line: Line) -> float | None:
    return goal.reached(line) if isinstance(goal, LeastCost) and goal.confidence is not None else None


def _best(goal: Goal, lines: Sequence[Line]) -> int:
    """The place of the winner; of equal ones the first."""
    places = range(len(lines))
    met = [place for place in places if goal.meets(lines[place])]
    if met:
        return max(met, key=lambda place: goal.merit(lines[place]))
    return min(places, key=lambda place: goal.excess(lines[place]))


def _again(line: Line, selection: SearchObjective) -> Line:
    """A line as it would be on the selection split."""
    bits = np.array([line["w_bits"], line["a_bits"]], dtype=np.int64).T
    evaluation = selection.evaluation(bits)
    found = {"accuracy": evaluation.accuracy, "noise": evaluation.noise, "score": selection.earned(bits)}
    if "lost" in line:
        pairs = selection.pairs(bits)
        found |= {"lost": pairs.lost, "won": pairs.won}
    return {**line, **found}


def _pooled(line: Line, again: Line, search: SearchObjective, selection: SearchObjective) -> Line:
    counts = {key: line[key] + again[key] for key in _COUNTED if key in line}
    return {**line, **counts, **{key: _mean(line[key], again[key], search, selection) for key in _POOLED}}


def _mean(in_search: float, in_selection: float, search: SearchObjective, selection: SearchObjective) -> float:
    """Over the images of both splits."""
    total = in_search * search.images + in_selection * selection.images
    return total / (search.images + selection.images)


def _facts(line: Line, again: Line) -> dict[str, Any]:
    return {
        "episode": line["episode"],
        "cost": line["cost"],
        "search_accuracy": line["accuracy"],
        "selection_accuracy": again["accuracy"],
    }

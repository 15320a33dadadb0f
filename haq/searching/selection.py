"""Selection of the winner: the best few policies of a search are measured again on images that gave no reward.

The accuracy of the best of many policies on a few hundred images is biased upwards. The finalists are therefore
compared on the images of the search and of the selection split together, with equal weight for every image.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from haq.runs.episode import Episode
from haq.runs.summary import Finalist
from haq.searching.goals import Goal, MinimumCost
from haq.searching.objective import SearchObjective


@dataclass(frozen=True, slots=True)
class Selection:
    """The winner of a search, its finalists and the effort of the selection.

    Attributes:
        winner: Episode of the winner, with its numbers on the search split.
        finalists: In the order of the search split; empty without a selection split.
        accuracy: Accuracy of the winner on the selection split; None without one.
        accuracy_fp32: Accuracy of the float network on the selection split; None without one.
        images: Size of the selection split.
        evaluations: Number of policies evaluated for the selection.
        forward_images: Number of images that ran through the network for the selection.
        confidence: Confidence, from the search and selection images together, that the accuracy drop is within the
            limit; None if none is required.
    """

    winner: Episode
    finalists: tuple[Finalist, ...] = ()
    accuracy: float | None = None
    accuracy_fp32: float | None = None
    images: int = 0
    evaluations: int = 0
    forward_images: int = 0
    confidence: float | None = None


def select(
    goal: Goal, episodes: Iterable[Episode], search: SearchObjective, selection: SearchObjective | None
) -> Selection:
    """Select the winner among the finalists of all episodes.

    Args:
        goal: Goal of the search.
        episodes: All episodes, of which at least one meets the goal.
        search: Objective on the search split.
        selection: Objective on the selection split; None without one.

    Returns:
        The finalist with the highest merit on the images of both splits. If no finalist meets the goal there, the one
        with the smallest excess.
    """
    finalists = goal.finalists(episodes)
    if selection is None:
        winner = max(finalists, key=goal.merit)
        return Selection(winner, confidence=_confidence(goal, winner))
    measured = [_measured_again(episode, selection) for episode in finalists]
    pooled = [_pooled(*both, search, selection) for both in zip(finalists, measured, strict=True)]
    accuracy_fp32 = _mean(search.evaluator.accuracy_fp32, selection.evaluator.accuracy_fp32, search, selection)
    on_all = goal.against(accuracy_fp32, search.images + selection.images)
    place = _best(on_all, pooled)
    return Selection(
        finalists[place],
        finalists=tuple(_finalist(*both) for both in zip(finalists, measured, strict=True)),
        accuracy=measured[place].accuracy,
        accuracy_fp32=selection.evaluator.accuracy_fp32,
        images=selection.images,
        evaluations=selection.evaluator.evaluations,
        forward_images=selection.forward_images,
        confidence=_confidence(on_all, pooled[place]),
    )


def _confidence(goal: Goal, episode: Episode) -> float | None:
    return goal.reached(episode) if isinstance(goal, MinimumCost) and goal.confidence is not None else None


def _best(goal: Goal, episodes: Sequence[Episode]) -> int:
    """Return the position of the winner; of equal ones the first."""
    places = range(len(episodes))
    met = [place for place in places if goal.meets(episodes[place])]
    if met:
        return max(met, key=lambda place: goal.merit(episodes[place]))
    return min(places, key=lambda place: goal.excess(episodes[place]))


def _measured_again(episode: Episode, selection: SearchObjective) -> Episode:
    """Return an episode with the numbers of its policy on the selection split."""
    bits = episode.bits
    evaluation = selection.evaluate(bits)
    found: dict[str, float] = {
        "accuracy": evaluation.accuracy,
        "noise": evaluation.noise,
        "score": selection.reward(evaluation),
    }
    if episode.lost is not None:
        pairs = selection.pairs(bits)
        found |= {"lost": pairs.lost, "won": pairs.won}
    return episode.model_copy(update=found)


def _pooled(episode: Episode, again: Episode, search: SearchObjective, selection: SearchObjective) -> Episode:
    """Return an episode with the numbers of its policy on the images of both splits."""
    found: dict[str, float] = {
        "accuracy": _mean(episode.accuracy, again.accuracy, search, selection),
        "noise": _mean(episode.noise, again.noise, search, selection),
        "score": _mean(episode.score, again.score, search, selection),
    }
    if episode.lost is not None and again.lost is not None:
        found["lost"] = episode.lost + again.lost
    if episode.won is not None and again.won is not None:
        found["won"] = episode.won + again.won
    return episode.model_copy(update=found)


def _mean(in_search: float, in_selection: float, search: SearchObjective, selection: SearchObjective) -> float:
    """Return the mean over the images of both splits."""
    total = in_search * search.images + in_selection * selection.images
    return total / (search.images + selection.images)


def _finalist(episode: Episode, again: Episode) -> Finalist:
    return Finalist(
        episode=episode.episode,
        cost=episode.cost,
        search_accuracy=episode.accuracy,
        selection_accuracy=again.accuracy,
    )

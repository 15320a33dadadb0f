"""Check that the episodes of a journal belong to the problem of a search."""

from collections.abc import Iterator
from math import isclose

import numpy as np

from haq.errors import UserError
from haq.experiment.problem import Problem
from haq.runs.episode import Episode
from haq.runs.run_folder import RunFolder
from haq.settings import RewardKind

REMEDY = "delete this line and all after it to go on from there"


def recorded_episodes(problem: Problem, run: RunFolder) -> Iterator[Episode]:
    """Read the journal of a search to continue, one episode at a time; an unfinished last line is ignored.

    Args:
        problem: The problem.
        run: Folder of the run.

    Yields:
        The episodes, in order.

    Raises:
        UserError: A line is damaged, or its number, bits, cost, accuracy or reward cannot be those of an episode of a
            search for this problem at this place.
    """
    for number, episode in enumerate(run.episodes.stream(remedy=REMEDY)):
        if not _matches(problem, number, episode):
            raise UserError(
                f"{run.episodes.path} is damaged (line {number + 1}: not episode {number} of this search); {REMEDY}"
            )
        yield episode


def is_consistent(episode: Episode, reward: RewardKind) -> bool:
    """Return whether the score of an episode follows from its other numbers.

    Args:
        episode: An episode.
        reward: Kind of reward that the search used.

    Returns:
        True if it does.
    """
    expected = -episode.noise if reward == "fidelity" else episode.reward
    return isclose(episode.score, expected, abs_tol=1e-9)


def _matches(problem: Problem, number: int, episode: Episode) -> bool:
    has_counts = {name in episode.model_fields_set for name in ("lost", "won")}
    return (
        episode.episode == number
        and has_counts == {problem.config.confidence is not None}
        and problem.task.metric.allows(episode.accuracy)
        and _has_policy(problem, episode)
        and is_consistent(episode, problem.config.reward)
    )


def _has_policy(problem: Problem, episode: Episode) -> bool:
    """Return whether every layer has bits that may be chosen, tied layers the same, and the cost is theirs."""
    choice, layers = problem.choice, len(problem.priced.layers)
    if not len(episode.w_bits) == len(episode.a_bits) == layers:
        return False
    bits = choice.decisions(episode.bits)
    if not choice.allows(bits) or not np.array_equal(choice.expand(bits), episode.bits):
        return False
    return isclose(episode.cost, choice.total(bits)[0])

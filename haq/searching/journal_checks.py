"""Check that the episodes of a journal belong to the problem of a search."""

from collections.abc import Iterable
from itertools import takewhile
from math import isclose

import numpy as np

from haq.config import RewardKind
from haq.costs.pricing import cost_in
from haq.experiment.problem import Problem
from haq.runs.episode import Episode


def matching_episodes(problem: Problem, episodes: Iterable[Episode]) -> list[Episode]:
    """Return the episodes of a journal up to the first that does not match the problem.

    An episode matches if its number, bits, cost, accuracy and reward could have been written by a search for this
    problem.

    Args:
        problem: The problem.
        episodes: Episodes of the journal, in order.

    Returns:
        The matching episodes.
    """
    numbered = takewhile(lambda each: _matches(problem, *each), enumerate(episodes))
    return [episode for _, episode in numbered]


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
        and _is_allowed(problem, episode)
        and isclose(episode.cost, _cost(problem, episode))
        and is_consistent(episode, problem.config.reward)
    )


def _is_allowed(problem: Problem, episode: Episode) -> bool:
    """Return whether every layer has bits that may be chosen, and tied layers the same."""
    choice, layers = problem.choice, len(problem.priced.layers)
    if not len(episode.w_bits) == len(episode.a_bits) == layers:
        return False
    bits = choice.decisions(episode.bits)
    return choice.allows(bits) and np.array_equal(choice.expand(bits), episode.bits)


def _cost(problem: Problem, episode: Episode) -> float:
    return cost_in(problem.config.objective, problem.priced.table.policy_cost(episode.w_bits, episode.a_bits))

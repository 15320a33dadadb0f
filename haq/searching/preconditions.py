"""Checks before the first episode: weak float networks, and problems with a single policy."""

from collections.abc import Iterator

from haq.experiment.problem import Problem
from haq.tasks.optional import float_warning


def network_warnings(problem: Problem, accuracy_fp32: float) -> Iterator[str]:
    """Yield warnings about the float network and its quantizers.

    Args:
        problem: The problem.
        accuracy_fp32: The float network's accuracy on the search split, a fraction.

    Yields:
        Warnings of one line each.
    """
    warning = float_warning(problem.task, accuracy_fp32, "search")
    if warning:
        yield warning
    if (warning := problem.network.quantizers.activations.warning) is not None:
        yield warning


def single_policy_reason(problem: Problem) -> str | None:
    """Explain why a search has a single policy to try.

    Args:
        problem: The problem.

    Returns:
        The reason in one line; None if there are several policies.
    """
    config, choice = problem.config, problem.choice
    if (choice.allowed.sum(axis=(1, 2)) == 1).all():
        ends = "; --first-last-bits free would search the first and last layer" if config.first_last_bits else ""
        return f"nothing to choose, as the bits of every layer are fixed{ends}"
    if choice.has_one_policy:
        return "nothing to choose, as a single policy is within the limits"
    if config.budget_rule == "cost-aware" and choice.without_dominated().has_one_policy:
        return "nothing to choose: on this device no narrower bits cost less than the only policy left"
    return None

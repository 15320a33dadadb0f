"""Searches in which there is nothing to choose."""

from haq.experiment.problem import Problem


def nothing_to_choose(problem: Problem) -> str | None:
    """Why a search has a single policy to try, in one line; None where it has several."""
    config, choice = problem.config, problem.choice
    if (choice.allowed.sum(axis=(1, 2)) == 1).all():
        ends = "; --first-last-bits free would search the first and last layer" if config.first_last_bits else ""
        return f"nothing to choose, as the bits of every layer are fixed{ends}"
    if choice.has_one_policy:
        return "nothing to choose, as a single policy is within the limits"
    if config.budget_rule == "cost-aware" and choice.without_dominated().has_one_policy:
        return "nothing to choose: on this device no narrower bits cost less than the only policy left"
    return None

"""Summary of a finished search: accuracy of its policy on the report split, beside uniform bits of no greater cost."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from pydantic import ValidationError

from envs.choices import IntArray
from haq.errors import UserError
from haq.evaluation.evaluator import Evaluator
from haq.experiment.problem import Problem
from haq.policy import CostSummary, Policy
from haq.runs.records import Metric
from haq.runs.run_folder import SUMMARY, RunFolder
from haq.runs.summary import BudgetLimit, EndedBy, Interval, Summary, UniformResult, Winner
from haq.searching.confidence import accuracy_interval
from haq.searching.selection import Selection
from haq.tasks.optional import GradedTask


@dataclass(frozen=True, slots=True)
class Effort:
    """Effort of a search, preparation and selection of the winner included and the report excluded.

    Attributes:
        episodes: Number of episodes.
        ended_by: Reason for the end of the search.
        evaluations: Number of distinct policies that were evaluated.
        forward_images: Number of images that ran through the network.
        warnings: Limits on how far the numbers can be trusted, one line each.
        seconds: Time in seconds.
    """

    episodes: int
    ended_by: EndedBy
    evaluations: int
    forward_images: int
    warnings: tuple[str, ...]
    seconds: float


def summarize(
    problem: Problem, policy: Policy, selection: Selection, *, report: Evaluator, effort: Effort, notes: Sequence[str]
) -> Summary:
    """Evaluate the winner and uniform bits on the report split, and assemble the summary of a search.

    Args:
        problem: The problem, with the budget that the policy is within.
        policy: The winner.
        selection: The winner's episode and the finalists.
        report: Evaluator on the report split.
        effort: Effort of the search.
        notes: Remarks on the numbers, one line each.

    Returns:
        The summary.
    """
    found = report.evaluate(policy.w_bits, policy.a_bits)
    winner = selection.winner
    return Summary(
        metric=Metric.model_validate(problem.task.metric.record(found.accuracy)),
        accuracy_fp32=report.accuracy_fp32,
        interval_fp32=_interval(problem, report.accuracy_fp32),
        accuracy=found.accuracy,
        interval=_interval(problem, found.accuracy),
        noise=found.noise,
        search_accuracy=winner.accuracy,
        search_accuracy_fp32=policy.accuracy["fp32_search"],
        selection_accuracy=selection.accuracy,
        selection_accuracy_fp32=selection.accuracy_fp32,
        optimism_gap=winner.accuracy - found.accuracy,
        report_images=problem.task.size("report"),
        search_images=problem.task.size("search"),
        selection_images=selection.images,
        winner=Winner(episode=winner.episode),
        finalists=selection.finalists,
        cost=policy.cost,
        baseline_cost=policy.baseline_cost,
        cost_ratio=cost_ratio(problem, policy.cost),
        budget=tuple(
            BudgetLimit(objective=each.budget.objective, value=each.budget.limit, ratio=each.ratio)
            for each in problem.budgets
        ),
        objective=problem.config.objective,
        notes=tuple(notes),
        uniform=tuple(filter(None, (_uniform(problem, pair, report) for pair in uniform_pairs(problem)))),
        **asdict(effort),
    )


def read_summary(run: RunFolder) -> Summary:
    """Read the summary of a finished search.

    Args:
        run: Folder of the search.

    Returns:
        The summary.

    Raises:
        UserError: The file is missing or damaged.
    """
    try:
        return Summary.model_validate(run.read_json(SUMMARY))
    except ValidationError as error:
        raise UserError(f"{run.path} holds no finished run: {SUMMARY} is missing or damaged") from error


def cost_ratio(problem: Problem, cost: CostSummary) -> float:
    """Compute the ratio of the objective's cost to that of 8 bits in every layer.

    Args:
        problem: The problem, with the objective and the baseline.
        cost: Cost of a policy.

    Returns:
        The ratio.
    """
    objective = problem.config.objective
    baseline = CostSummary.of(problem.priced.baseline)
    return float(cost.value(objective) or 0.0) / float(baseline.value(objective) or 1.0)


def uniform_pairs(problem: Problem) -> list[tuple[int, int]]:
    """Select the uniform bits to compare a policy with.

    These are the pairs within every budget that no other such pair exceeds in both, and the largest with equal bits.

    Args:
        problem: The problem.

    Returns:
        Pairs (w_bits, a_bits), sorted.
    """
    allowed = problem.allowed
    widths = range(allowed.min_bits, allowed.max_bits + 1)
    a_widths = (allowed.a_bits,) if allowed.a_bits else widths
    within = [(w, a) for w in widths for a in a_widths if _is_possible(problem, uniform_bits_of(problem, w, a))]
    best = [(w, a) for w, a in within if not any((v >= w and b >= a) and (v, b) != (w, a) for v, b in within)]
    equal = [(w, a) for w, a in within if w == a]
    return sorted({*best, *equal[-1:]})


def _is_possible(problem: Problem, bits: IntArray) -> bool:
    """Check whether a policy is within every budget, and legal on the deployment target."""
    return problem.choice.fits(bits) and problem.choice.allows(bits)


def uniform_bits_of(problem: Problem, w_bits: int, a_bits: int) -> IntArray:
    """Return a policy that has the same bits in every layer but the pinned ones.

    Args:
        problem: The problem.
        w_bits: Bits of the weights.
        a_bits: Bits of the inputs.

    Returns:
        The bits [decision, 2].
    """
    bits = np.tile(np.array([w_bits, a_bits], dtype=np.int64), (len(problem.choice.names), 1))
    for name, pinned in (problem.allowed.pinned or {}).items():
        bits[problem.choice.names.index(name)] = pinned
    return bits


def _uniform(problem: Problem, pair: tuple[int, int], report: Evaluator) -> UniformResult | None:
    """Return the result of uniform bits; None if they cannot be evaluated."""
    bits = problem.choice.expand(uniform_bits_of(problem, *pair))
    w_bits, a_bits = bits[:, 0].tolist(), bits[:, 1].tolist()
    cost = CostSummary.of(problem.priced.table.policy_cost(w_bits, a_bits))
    evaluation = report.attempt(w_bits, a_bits)
    if evaluation.failure is not None:
        return None
    return UniformResult(
        w_bits=pair[0],
        a_bits=pair[1],
        cost=cost,
        cost_ratio=cost_ratio(problem, cost),
        accuracy=evaluation.accuracy,
        interval=_interval(problem, evaluation.accuracy),
        noise=evaluation.noise,
    )


def _interval(problem: Problem, accuracy: float) -> Interval | None:
    """Return the interval of an accuracy on the report split; None for scores that are not fractions of images."""
    if not isinstance(problem.task, GradedTask):
        return None
    return accuracy_interval(accuracy, problem.task.size("report"))

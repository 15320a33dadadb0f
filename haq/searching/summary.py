"""What a run came to, on images that no decision was taken on, next to uniform bits of no greater cost."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from envs.choices import IntArray
from haq.evaluation.evaluator import Evaluator
from haq.experiment.problem import Problem
from haq.policy import CostSummary, Policy
from haq.searching.confidence import METHOD, accuracy_interval, confidence_of_drop, paired
from haq.searching.selection import Selection
from haq.tasks.base import GradedTask, SplitName


def summarize(problem: Problem, policy: Policy, selection: Selection, report: Evaluator) -> dict[str, Any]:
    """Accuracy on the report split and cost of the policy, of the float network and of uniform bits.

    `optimism_gap` is what the policy loses from the images that it was found on to images that decided nothing.
    """
    cost, baseline = policy.cost, policy.baseline_cost
    objective = problem.config.objective
    found = report.evaluate(policy.w_bits, policy.a_bits)
    accuracy = found.accuracy
    return {
        "metric": problem.task.metric.record(accuracy),
        "accuracy_fp32": report.accuracy_fp32,
        "interval_fp32": _interval(problem, report.accuracy_fp32),
        "accuracy": accuracy,
        "interval": _interval(problem, accuracy),
        "noise": found.noise,
        "search_accuracy": selection.winner["accuracy"],
        "search_accuracy_fp32": policy.accuracy["fp32_search"],
        "selection_accuracy": selection.accuracy,
        "selection_accuracy_fp32": selection.accuracy_fp32,
        "optimism_gap": selection.winner["accuracy"] - accuracy,
        "report_images": problem.task.size("report"),
        "search_images": problem.task.size("search"),
        "selection_images": selection.images,
        "winner": {"episode": selection.winner["episode"]},
        "finalists": list(selection.finalists),
        "cost": cost.model_dump(),
        "baseline_cost": baseline.model_dump(),
        "cost_ratio": cost_ratio(problem, cost),
        "budget": [
            {"objective": resolved.budget.objective, "value": resolved.budget.limit, "ratio": resolved.ratio}
            for resolved in problem.budgets
        ],
        "objective": objective,
        "notes": list(problem.priced.table.notes),
        "uniform": [_uniform(problem, pair, report) for pair in uniform_pairs(problem)],
    }


def summarize_drop(problem: Problem, selection: Selection, summary: Mapping[str, Any]) -> dict[str, Any]:
    """How much accuracy the policy lost where, and how sure it is that it is no more than it should be.

    All in fractions. The report split took no part in any decision; the selection split, in one among a few.
    """
    points, task = problem.config.max_accuracy_drop, problem.task
    assert points is not None
    drop = points / 100
    lost = {
        "search": summary["search_accuracy_fp32"] - summary["search_accuracy"],
        "selection": None if selection.accuracy is None else (selection.accuracy_fp32 or 0.0) - selection.accuracy,
        "report": summary["accuracy_fp32"] - summary["accuracy"],
    }
    splits: tuple[SplitName, ...] = ("selection", "report") if isinstance(task, GradedTask) else ()
    bits = tuple(selection.winner["w_bits"]), tuple(selection.winner["a_bits"])
    pairs = {
        split: paired(problem.network.engine, task, split, bits, batch_size=problem.config.eval_batch)
        for split in splits
        if task.size(split)
    }
    return {
        "limit": drop,
        **lost,
        "confidence": {split: confidence_of_drop(each, drop) for split, each in pairs.items()},
        "paired": {split: each._asdict() for split, each in pairs.items()},
        "confidence_required": problem.config.confidence,
        "confidence_reached": selection.confidence,
        "method": METHOD if pairs else None,
    }


def cost_ratio(problem: Problem, cost: CostSummary) -> float:
    """The objective's cost over that of 8 bits everywhere."""
    objective = problem.config.objective
    baseline = CostSummary.of(problem.priced.baseline)
    return float(cost.value(objective) or 0.0) / float(baseline.value(objective) or 1.0)


def uniform_pairs(problem: Problem) -> list[tuple[int, int]]:
    """The uniform (w_bits, a_bits) within every budget that no other such pair exceeds, and the largest equal one."""
    allowed = problem.allowed
    widths = range(allowed.min_bits, allowed.max_bits + 1)
    a_widths = (allowed.a_bits,) if allowed.a_bits else widths
    within = [(w, a) for w in widths for a in a_widths if problem.choice.fits(uniform_bits_of(problem, w, a))]
    best = [(w, a) for w, a in within if not any((v >= w and b >= a) and (v, b) != (w, a) for v, b in within)]
    equal = [(w, a) for w, a in within if w == a]
    return sorted({*best, *equal[-1:]})


def uniform_bits_of(problem: Problem, w_bits: int, a_bits: int) -> IntArray:
    """The same bits [decision, 2] for every layer but the pinned ones."""
    bits = np.tile(np.array([w_bits, a_bits], dtype=np.int64), (len(problem.choice.names), 1))
    for name, pinned in (problem.allowed.pinned or {}).items():
        bits[problem.choice.names.index(name)] = pinned
    return bits


def _uniform(problem: Problem, pair: tuple[int, int], report: Evaluator) -> dict[str, Any]:
    bits = problem.choice.expand(uniform_bits_of(problem, *pair))
    w_bits, a_bits = bits[:, 0].tolist(), bits[:, 1].tolist()
    cost = CostSummary.of(problem.priced.table.policy_cost(w_bits, a_bits))
    evaluation = report.evaluate(w_bits, a_bits)
    return {
        "w_bits": pair[0],
        "a_bits": pair[1],
        "cost": cost.model_dump(),
        "cost_ratio": cost_ratio(problem, cost),
        "accuracy": evaluation.accuracy,
        "interval": _interval(problem, evaluation.accuracy),
        "noise": evaluation.noise,
    }


def _interval(problem: Problem, accuracy: float) -> dict[str, Any] | None:
    """Of an accuracy on the report split; None for scores that are not shares of images."""
    if not isinstance(problem.task, GradedTask):
        return None
    return accuracy_interval(accuracy, problem.task.size("report"))._asdict()

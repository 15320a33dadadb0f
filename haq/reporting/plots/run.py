"""Figures of a run, drawn from the files in its folder only."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from matplotlib.figure import Figure

from envs.choices import Budget
from haq.budgets import ResolvedBudget
from haq.errors import UserError
from haq.experiment.prior.measured import DOCUMENT as SENSITIVITY
from haq.files import link_target
from haq.finetuning.journal import CURVE
from haq.finetuning.journal import JOURNAL as EPOCHS
from haq.formatting import device_title, model_title
from haq.policy import load_policy
from haq.reporting.plots.curve import ROUNDING, Outcome, Target
from haq.reporting.plots.epochs import plot_finetuning
from haq.reporting.plots.files import check_suffix, save_figure
from haq.reporting.plots.learning import plot_learning
from haq.reporting.plots.policy import plot_policy
from haq.reporting.plots.sensitivity import SensitivityTable, plot_sensitivity
from haq.runs.records import Metric as MetricRecord
from haq.runs.records import Positive, Record, checked
from haq.runs.run_folder import CONFIG, JOURNAL, POLICY, SUMMARY, RunFolder
from haq.runs.summary import BudgetLimit, Summary
from haq.tasks.metrics import ACCURACY, metric_of
from hardware_sim.cost import Objective

PlotKind = Literal["policy", "learning", "sensitivity"]


class _Budget(Record):
    objective: Objective
    value: Positive
    ratio: Positive


class _Metric(MetricRecord):
    name: str = ACCURACY.name


class _PolicySummary(Record):
    """Fields of a summary that the figure of a policy uses; commands that do not search write no budget."""

    metric: _Metric = _Metric()
    budget: tuple[_Budget, ...] = ()


class _Config(Record):
    model: str = "model"
    hardware: str = "unknown device"
    agent: str = "unknown agent"
    seed: int = 0


def draw_missing(path: Path) -> None:
    """Draw the figures that the folder of a finished run lacks.

    Nothing is drawn if the folder is not writable.

    Args:
        path: Folder of the run.
    """
    if not os.access(path, os.W_OK):
        return
    if (path / EPOCHS).is_file():
        if not (path / CURVE).is_file():
            save_figure(plot_finetuning(path), path / CURVE)
        return
    missing = [kind for kind, need in NEEDS.items() if (path / need).is_file() and not (path / FILES[kind]).is_file()]
    if missing:
        plot_run(path, kinds=missing)


def plot_run(
    path: str | Path,
    *,
    kinds: Sequence[PlotKind] | None = None,
    out: str | Path | None = None,
) -> list[Path]:
    """Draw the figures of a run, finished or not.

    Args:
        path: Folder of the run.
        kinds: Figures to draw; None for all that the folder has files for.
        out: File for a single figure; None for the usual names in the folder.

    Returns:
        The files of the figures.

    Raises:
        UserError: The folder is not that of a run, a file in it is damaged, or `out` is given for several figures.
    """
    run = RunFolder(Path(path))
    chosen = list(kinds) if kinds is not None else [kind for kind, need in NEEDS.items() if (run.path / need).is_file()]
    if not chosen:
        raise UserError(f"{run.path} is not the folder of a run: it has neither {' nor '.join(NEEDS.values())}")
    if out is not None and len(chosen) > 1:
        raise UserError(f"--out {out} takes one figure; choose it with --kind {' or --kind '.join(chosen)}")
    targets = [run.path / FILES[kind] if out is None else Path(out) for kind in chosen]
    for target in targets:
        check_suffix(target)
    for kind, target in zip(chosen, targets, strict=True):
        save_figure(DRAW[kind](run), target if out is None else link_target(target))
    return targets


def _draw_policy(run: RunFolder) -> Figure:
    summary = checked(_PolicySummary, run.read_json(SUMMARY) or {}, run.path / SUMMARY)
    return plot_policy(
        load_policy(run.path / POLICY), budgets=_resolved(summary.budget), metric=metric_of(summary.metric)
    )


def _draw_learning(run: RunFolder) -> Figure:
    config = checked(_Config, run.read_json(CONFIG) or {}, run.path / CONFIG)
    episodes = run.episodes.stream(remedy="delete it to draw the other figures")
    count = run.episodes.count()
    if not count:
        raise UserError(f"{run.path / JOURNAL} has no episodes; a learning curve needs at least one")
    title = f"{model_title(config.model)} on {device_title(config.hardware)}: {config.agent}, seed {config.seed}"
    document = run.read_json(SUMMARY)
    if document is None:
        return plot_learning(episodes, title=title)
    summary = checked(Summary, document, run.path / SUMMARY)
    return plot_learning(episodes, title=title, target=_target(summary), outcome=_outcome(summary, count))


def _draw_sensitivity(run: RunFolder) -> Figure:
    document = run.read_json(SENSITIVITY) or {}
    return plot_sensitivity(checked(SensitivityTable, document, run.path / SENSITIVITY))


FILES: Mapping[PlotKind, str] = {
    "policy": "policy.png",
    "learning": "learning_curve.png",
    "sensitivity": "sensitivity.png",
}
NEEDS: Mapping[PlotKind, str] = {"policy": POLICY, "learning": JOURNAL, "sensitivity": SENSITIVITY}
DRAW: Mapping[PlotKind, Callable[[RunFolder], Figure]] = {
    "policy": _draw_policy,
    "learning": _draw_learning,
    "sensitivity": _draw_sensitivity,
}


def _resolved(budgets: Sequence[_Budget | BudgetLimit]) -> list[ResolvedBudget]:
    return [ResolvedBudget(Budget(each.objective, each.value), each.ratio) for each in budgets]


def _target(summary: Summary) -> Target:
    """Return the goal of a search."""
    drop, fp32 = summary.max_accuracy_drop, summary.search_accuracy_fp32
    budget = _resolved(summary.budget)[0]
    if drop is None or fp32 is None:
        return Target(budget)
    return Target(budget, fp32 - drop.limit, drop.confidence_required, drop.limit, summary.search_images)


def _outcome(summary: Summary, episodes: int) -> Outcome:
    """Return the results of a search; a winner that is not among the first `episodes` is dropped."""
    winner = summary.winner.episode if summary.winner and summary.winner.episode < episodes else None
    return Outcome(winner, summary.search_accuracy_fp32, _report(summary), metric_of(summary.metric))


def _report(summary: Summary) -> dict[str, float]:
    """Return scores on the report split: float network, policy, and the best uniform bits within the budget."""
    scores = {"float": summary.accuracy_fp32, "policy": summary.accuracy}
    limit = summary.budget[0].ratio * (1 + ROUNDING)
    affordable = [each for each in summary.uniform if each.cost_ratio <= limit]
    if affordable:
        best = max(affordable, key=lambda each: each.accuracy)
        scores[f"uniform {best.w_bits}/{best.a_bits}"] = best.accuracy
    return scores

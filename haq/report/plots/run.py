"""The figures of a run, from the files in its folder and nothing else."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from matplotlib.figure import Figure
from pydantic import Field, TypeAdapter, ValidationError

from envs.choices import Budget
from haq.budgets import ResolvedBudget
from haq.errors import UserError, validation_message
from haq.experiment.prior.measured import DOCUMENT as SENSITIVITY
from haq.finetuning.journal import CURVE
from haq.finetuning.journal import JOURNAL as EPOCHS
from haq.formatting import device_title, model_title
from haq.policy import load_policy
from haq.report.plots.curve import ROUNDING, Goal
from haq.report.plots.epochs import plot_finetuning
from haq.report.plots.files import check_suffix, save_figure
from haq.report.plots.learning import plot_learning
from haq.report.plots.policy import plot_policy
from haq.report.plots.sensitivity import plot_sensitivity
from haq.runs.records import Count, Finite, Positive, Record
from haq.runs.records import Metric as MetricRecord
from haq.runs.run_folder import CONFIG, JOURNAL, POLICY, SUMMARY, RunFolder
from haq.tasks.metrics import ACCURACY, metric_of
from hardware_sim.cost import Objective

PlotKind = Literal["policy", "learning", "sensitivity"]
Json = Mapping[str, Any]
Score = Finite
T = TypeVar("T")


class _Episode(Record):
    cost: Score
    accuracy: Score
    noise: Score = 0.0
    score: Score
    actor_loss: Score | None = None
    critic_loss: Score | None = None
    lost: Count | None = None
    won: Count | None = None


class _Budget(Record):
    objective: Objective
    value: Positive
    ratio: Positive


class _Uniform(Record):
    w_bits: int
    a_bits: int
    cost_ratio: Score
    accuracy: Score


class _Drop(Record):
    limit: Score
    confidence_required: Score | None = None


class _Winner(Record):
    episode: Annotated[int, Field(ge=0)]


class _Metric(MetricRecord):
    name: str = ACCURACY.name


class _Layer(Record):
    name: str


class _Cell(Record):
    part: Literal["weights", "input"]
    bits: int
    divergence: Score | None
    fisher: Score


class _Sensitivity(Record):
    model: str
    metric: _Metric
    images: int
    accuracy_fp32: Score | None
    layers: Annotated[tuple[_Layer, ...], Field(min_length=1)]
    cells: Annotated[tuple[_Cell, ...], Field(min_length=1)]


class _Summary(Record):
    metric: _Metric = _Metric()
    accuracy_fp32: Score | None = None
    accuracy: Score | None = None
    search_accuracy_fp32: Score | None = None
    budget: tuple[_Budget, ...] = ()
    uniform: tuple[_Uniform, ...] = ()
    max_accuracy_drop: _Drop | None = None
    search_images: Count = 0
    winner: _Winner | None = None


class _Config(Record):
    model: str = "model"
    hardware: str = "unknown device"
    agent: str = "unknown agent"
    seed: int = 0


_JOURNAL = TypeAdapter(list[_Episode])


def draw_missing(path: Path) -> None:
    """Draw the figures that the folder of a finished run lacks; none where this user may not write to it."""
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
    """Draw the figures of a run, finished or not, as `policy.png` and `learning_curve.png` in its folder.

    `kinds` None draws those that the folder has files for. `out` takes a single figure elsewhere. Returns the files.
    Raises UserError for a folder or a file that is no run's.
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
    found = _checked(_Summary.model_validate, run.read_json(SUMMARY) or {}, run.path / SUMMARY)
    for kind, target in zip(chosen, targets, strict=True):
        save_figure(DRAW[kind](run, found), target)
    return targets


def _draw_policy(run: RunFolder, summary: _Summary) -> Figure:
    policy = load_policy(run.path / POLICY)
    return plot_policy(policy, budgets=_budgets(summary), metric=metric_of(summary.metric))


def _draw_learning(run: RunFolder, summary: _Summary) -> Figure:
    config = _checked(_Config.model_validate, run.read_json(CONFIG) or {}, run.path / CONFIG)
    episodes = _checked(_JOURNAL.validate_python, run.episodes(), run.path / JOURNAL)
    if not episodes:
        raise UserError(f"{run.path / JOURNAL} has no episodes; a learning curve needs at least one")
    return plot_learning(
        [episode.model_dump() for episode in episodes],
        title=f"{model_title(config.model)} on {device_title(config.hardware)}: {config.agent}, seed {config.seed}",
        goal=_goal(summary),
        winner=summary.winner.episode if summary.winner and summary.winner.episode < len(episodes) else None,
        score_fp32=summary.search_accuracy_fp32,
        report=_report(summary),
        metric=metric_of(summary.metric),
    )


def _draw_sensitivity(run: RunFolder, _: _Summary) -> Figure:
    document = _checked(_Sensitivity.model_validate, run.read_json(SENSITIVITY) or {}, run.path / SENSITIVITY)
    return plot_sensitivity(document.model_dump())


FILES: Mapping[PlotKind, str] = {
    "policy": "policy.png",
    "learning": "learning_curve.png",
    "sensitivity": "sensitivity.png",
}
NEEDS: Mapping[PlotKind, str] = {"policy": POLICY, "learning": JOURNAL, "sensitivity": SENSITIVITY}
DRAW: Mapping[PlotKind, Callable[[RunFolder, _Summary], Figure]] = {
    "policy": _draw_policy,
    "learning": _draw_learning,
    "sensitivity": _draw_sensitivity,
}


def _budgets(summary: _Summary) -> list[ResolvedBudget]:
    return [ResolvedBudget(Budget(each.objective, each.value), each.ratio) for each in summary.budget]


def _goal(summary: _Summary) -> Goal:
    """What the search was for, as far as its summary is written."""
    drop, fp32 = summary.max_accuracy_drop, summary.search_accuracy_fp32
    least = None if drop is None or fp32 is None else fp32 - drop.limit
    budget = next(iter(_budgets(summary)), None)
    if drop is None or least is None:
        return Goal(budget)
    return Goal(budget, least, drop.confidence_required, drop.limit, summary.search_images)


def _report(summary: _Summary) -> dict[str, float]:
    """Scores on the report split: float network, policy, and the best uniform bits that cost no more than allowed."""
    scores = {"float": summary.accuracy_fp32, "policy": summary.accuracy}
    limit = summary.budget[0].ratio * (1 + ROUNDING) if summary.budget else 1.0
    affordable = [each for each in summary.uniform if each.cost_ratio <= limit]
    if affordable:
        best = max(affordable, key=lambda each: each.accuracy)
        scores[f"uniform {best.w_bits}/{best.a_bits}"] = best.accuracy
    return {name: score for name, score in scores.items() if score is not None}


def _checked(parse: Callable[[Any], T], document: object, path: Path) -> T:
    try:
        return parse(document)
    except ValidationError as error:
        raise UserError(f"{path} is damaged: {validation_message(error)}") from error

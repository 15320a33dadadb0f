"""Figures of a run, drawn from the files in its folder only."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from matplotlib.figure import Figure

from haq.errors import UserError
from haq.experiment.prior.measured import DOCUMENT as SENSITIVITY
from haq.files import link_target
from haq.finetuning.journal import CURVE
from haq.finetuning.journal import JOURNAL as EPOCHS
from haq.formatting import device_title, model_title
from haq.policy import load_policy
from haq.reporting.plots.curve import Outcome, Target
from haq.reporting.plots.epochs import plot_finetuning
from haq.reporting.plots.error import plot_error
from haq.reporting.plots.files import check_suffix, save_figure
from haq.reporting.plots.learning import plot_learning
from haq.reporting.plots.pareto import load_sweep, plot_pareto
from haq.reporting.plots.run_policy import draw_policy, report_scores, resolved
from haq.reporting.plots.sensitivity import SensitivityTable, plot_expected, plot_sensitivity
from haq.runs.layer_errors import LAYER_ERRORS, LayerErrors
from haq.runs.records import Record, checked
from haq.runs.run_folder import CONFIG, JOURNAL, POLICY, SUMMARY, RunFolder
from haq.runs.summary import Summary
from haq.studies.comparison.records import DOCUMENT as COMPARISON
from haq.studies.pareto.records import DOCUMENT as SWEEP
from haq.tasks.metrics import metric_of

FolderPlot = Literal["policy", "learning", "sensitivity", "error", "pareto", "compare"]
"""Figures that need nothing but the files of a folder."""


class _Config(Record):
    model: str = "model"
    hardware: str = "unknown device"
    agent: str = "unknown agent"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class _Plot:
    """Figure of a folder.

    Attributes:
        file: Its usual file.
        needs: Files of which it takes the first that is there.
        draw: Draws it with a title, or its own if None.
        at_end: File with which a run draws it by itself at its end; None if it never does.
    """

    file: str
    needs: tuple[str, ...]
    draw: Callable[[RunFolder, str | None], Figure]
    at_end: str | None = None

    def applies(self, path: Path) -> bool:
        """Return whether a folder has a file for it."""
        return any((path / need).is_file() for need in self.needs)


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
    missing = [
        kind
        for kind, plot in PLOTS.items()
        if plot.at_end is not None and (path / plot.at_end).is_file() and not (path / plot.file).is_file()
    ]
    if missing:
        plot_run(path, kinds=missing)


def plot_run(
    path: str | Path,
    *,
    kinds: Sequence[FolderPlot] | None = None,
    out: str | Path | None = None,
    title: str | None = None,
) -> list[Path]:
    """Draw the figures of a run, finished or not, or of a folder of several searches.

    Args:
        path: Folder of the run, or of `haq compare`, `haq pareto` or `haq sensitivity`.
        kinds: Figures to draw; None for all that the folder has files for.
        out: File for a single figure; None for the usual names in the folder.
        title: Title of the figures; None for their own.

    Returns:
        The files of the figures.

    Raises:
        UserError: The folder is not that of a run, a file in it is damaged, or `out` is given for several figures.
    """
    run = RunFolder(Path(path))
    chosen = applicable(run) if kinds is None else list(kinds)
    if not chosen:
        needs = [plot.at_end for plot in PLOTS.values() if plot.at_end is not None]
        raise UserError(f"{run.path} is not the folder of a run: it has neither {' nor '.join(needs)}")
    if out is not None and len(chosen) > 1:
        raise UserError(f"--out {out} takes one figure; choose it with --kind {' or --kind '.join(chosen)}")
    targets = [run.path / PLOTS[kind].file if out is None else Path(out) for kind in chosen]
    for target in targets:
        check_suffix(target)
    for kind, target in zip(chosen, targets, strict=True):
        save_figure(draw_run(run.path, kind, title=title), target if out is None else link_target(target))
    return targets


def applicable(run: RunFolder) -> list[FolderPlot]:
    """List the figures that a folder has files for.

    Args:
        run: The folder.

    Returns:
        Kinds of figures.
    """
    found = [kind for kind, plot in PLOTS.items() if plot.applies(run.path)]
    if "sensitivity" in found and not (run.path / SENSITIVITY).is_file() and not read_errors(run).has_expected:
        found.remove("sensitivity")
    return found


def draw_run(path: str | Path, kind: FolderPlot, *, title: str | None = None) -> Figure:
    """Draw a figure of a run, finished or not, or of a folder of several searches.

    Args:
        path: Folder of the run, or of `haq compare`, `haq pareto` or `haq sensitivity`.
        kind: Which figure.
        title: Title of the figure; None for its own.

    Returns:
        The figure.

    Raises:
        UserError: The folder lacks the files of the figure, or they are damaged.
    """
    return PLOTS[kind].draw(RunFolder(Path(path)), title)


def read_errors(run: RunFolder) -> LayerErrors:
    """Read the errors of the layers of a run.

    Args:
        run: Folder of the run.

    Returns:
        The errors.

    Raises:
        UserError: The file is missing or damaged.
    """
    path = run.path / LAYER_ERRORS
    if not path.is_file():
        raise UserError(f"{run.path} has no {LAYER_ERRORS}, which a search writes at its end")
    return checked(LayerErrors, run.read_json(LAYER_ERRORS), path, remedy="delete it to do without it")


def _draw_learning(run: RunFolder, title: str | None) -> Figure:
    if (run.path / EPOCHS).is_file():
        return plot_finetuning(run.path, title=title)
    config = checked(_Config, run.read_json(CONFIG) or {}, run.path / CONFIG)
    episodes = run.episodes.stream(remedy="delete it to draw the other figures")
    count = run.episodes.count()
    if not count:
        raise UserError(f"{run.path / JOURNAL} has no episodes; a learning curve needs at least one")
    named = f"{model_title(config.model)} on {device_title(config.hardware)}: {config.agent}, seed {config.seed}"
    title, document = title or named, run.read_json(SUMMARY)
    if document is None:
        return plot_learning(episodes, title=title)
    summary = checked(Summary, document, run.path / SUMMARY)
    return plot_learning(episodes, title=title, target=_target(summary), outcome=_outcome(summary, count))


def _draw_sensitivity(run: RunFolder, title: str | None) -> Figure:
    if (run.path / LAYER_ERRORS).is_file():
        errors = read_errors(run)
        if not errors.has_expected:
            raise UserError(f"{run.path} expected no sensitivities: its search method needs none; use haq sensitivity")
        return plot_expected(errors, load_policy(run.path / POLICY), title=title)
    document = run.read_json(SENSITIVITY) or {}
    return plot_sensitivity(checked(SensitivityTable, document, run.path / SENSITIVITY), title=title)


def _draw_error(run: RunFolder, title: str | None) -> Figure:
    policy, errors = load_policy(run.path / POLICY), read_errors(run)
    if [layer.name for layer in errors.layers] != [layer.name for layer in policy.layers]:
        raise UserError(f"{run.path / LAYER_ERRORS} is of other layers than {POLICY}; delete it to do without it")
    named = f"{model_title(policy.model)}: error of each layer"
    return plot_error(errors, [layer.kind for layer in policy.layers], title=title or named)


def _draw_pareto(run: RunFolder, title: str | None) -> Figure:
    return plot_pareto(load_sweep(run.path), title=title)


def _draw_comparison(run: RunFolder, title: str | None) -> Figure:
    from haq.reporting.plots.comparison import load_comparison, plot_comparison  # imports pandas

    return plot_comparison(load_comparison(run.path), title=title)


PLOTS: Mapping[FolderPlot, _Plot] = {
    "policy": _Plot("policy.png", (POLICY,), draw_policy, at_end=POLICY),
    "learning": _Plot(CURVE, (JOURNAL, EPOCHS), _draw_learning, at_end=JOURNAL),
    "sensitivity": _Plot("sensitivity.png", (SENSITIVITY, LAYER_ERRORS), _draw_sensitivity, at_end=SENSITIVITY),
    "error": _Plot("layer_errors.png", (LAYER_ERRORS,), _draw_error),
    "pareto": _Plot("pareto.png", (SWEEP,), _draw_pareto),
    "compare": _Plot("comparison.png", (COMPARISON,), _draw_comparison),
}


def _target(summary: Summary) -> Target:
    """Return the goal of a search."""
    drop, fp32 = summary.max_accuracy_drop, summary.search_accuracy_fp32
    budget = resolved(summary.budget)[0]
    if drop is None or fp32 is None:
        return Target(budget)
    return Target(budget, fp32 - drop.limit, drop.confidence_required, drop.limit, summary.search_images)


def _outcome(summary: Summary, episodes: int) -> Outcome:
    """Return the results of a search; a winner that is not among the first `episodes` is dropped."""
    winner = summary.winner.episode if summary.winner and summary.winner.episode < episodes else None
    return Outcome(winner, summary.search_accuracy_fp32, report_scores(summary), metric_of(summary.metric))

"""Content of the page: what its template shows, in the order in which it stands there."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from envs.choices import BudgetError
from haq.errors import UserError
from haq.experiment.policy_source import Workflow
from haq.formatting import device_title, model_title
from haq.reporting.explanation.explain import explain
from haq.reporting.explanation.sentences import sentences
from haq.reporting.page.answer import Answer, answer
from haq.reporting.page.commands import Command, commands
from haq.reporting.page.comparison import devices_table, pareto_figure, policies_figures, runs_table
from haq.reporting.page.facts import exports_table, provenance, verification_table
from haq.reporting.page.figures import (
    PageFigure,
    error_figure,
    folder_figures,
    page_figure,
    policy_figure,
    roofline_figure,
)
from haq.reporting.page.layers import LayerRow, layer_rows
from haq.reporting.page.runs import ReportedRun
from haq.reporting.plots.run import draw_run
from haq.runs.run_folder import JOURNAL
from haq.studies.comparison.records import DOCUMENT as COMPARISON
from haq.studies.pareto.records import DOCUMENT as SWEEP
from haq.tables import Block, Table

_WORKFLOWS: Mapping[Workflow, str] = {
    "search": "Search",
    "finetune": "Fine-tuning",
    "reconstruct": "Reconstruction",
}
_SWEEP_TABLES = ("Searches", "Hypervolumes")
_COMPARISON_TABLES = (
    "Scores of all methods",
    "Differences between scores",
    "Ratios of output errors",
    "Ratios of KL divergences",
)
"""Captions of the tables of studies, in the order of their reports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Part of the page below a heading.

    Attributes:
        heading: The heading.
        paragraphs: Text.
        figures: Figures, after the text.
        tables: Titles and tables, after the figures.
        points: List of sentences, after the tables.
        is_folded: Whether the tables are shown only on request.
    """

    heading: str
    paragraphs: tuple[str, ...] = ()
    figures: tuple[PageFigure, ...] = ()
    tables: tuple[tuple[str, Table], ...] = ()
    points: tuple[str, ...] = ()
    is_folded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """Run as the page shows it.

    Attributes:
        name: Name that is unique on the page.
        title: Network and device.
        label: Name of the folder.
        subtitle: Kind of the run, objective, method and seed.
        answer: The answer.
        policy: Figure of the bits.
        rows: Rows of the layers.
        sections: Further sections.
        commands: Commands that repeat the run and continue from it.
    """

    name: str
    title: str
    label: str
    subtitle: str
    answer: Answer
    policy: PageFigure
    rows: tuple[LayerRow, ...]
    sections: tuple[Section, ...]
    commands: tuple[Command, ...]

    def has(self, field: str) -> bool:
        """Return whether any layer has a text in a field of its row.

        Args:
            field: Name of the field.

        Returns:
            True if one has.
        """
        return any(getattr(row, field) for row in self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Content of the page.

    Attributes:
        title: Title of the page.
        comparison: Comparison of several runs, and the results of studies.
        runs: The runs.
    """

    title: str
    comparison: tuple[Section, ...]
    runs: tuple[RunView, ...]


def make_page(runs: Sequence[ReportedRun], studies: Sequence[Path], devices: Sequence[str]) -> Page:
    """Collect the content of the page.

    Args:
        runs: Finished runs.
        studies: Folders of `haq compare` and `haq pareto`.
        devices: Devices on which the policy of every run is priced.

    Returns:
        The content.
    """
    is_alone = len(runs) == 1
    views = tuple(_view(run, f"run{number}", devices, is_alone=is_alone) for number, run in enumerate(runs, start=1))
    comparison = [*_comparison(runs), *(_study(path, f"study{place}") for place, path in enumerate(studies, start=1))]
    title = views[0].title if len(views) == 1 else f"Comparison of {len(views)} runs"
    return Page(title=title if views else "Results of searches", comparison=tuple(comparison), runs=views)


def _view(run: ReportedRun, name: str, devices: Sequence[str], *, is_alone: bool) -> RunView:
    policy = run.policy
    device = "" if policy.hardware is None else f" on {device_title(run.config.hardware)}"
    method = f"{run.config.agent}, {run.search.episodes} episodes, " if run.search else ""
    return RunView(
        name=name,
        title=f"{model_title(policy.model)}{device}",
        label=run.label,
        subtitle=f"{_WORKFLOWS[run.workflow]} for {run.objective}, {method}seed {run.config.seed}",
        answer=answer(run),
        policy=policy_figure(run, f"{name}-policy"),
        rows=layer_rows(run),
        sections=tuple(_sections(run, name, devices, is_alone=is_alone)),
        commands=tuple(commands(run)),
    )


def _sections(run: ReportedRun, name: str, devices: Sequence[str], *, is_alone: bool) -> Iterator[Section]:
    """Yield the sections of a run that have a content."""
    explained = tuple(_explained(run))
    if explained:
        yield Section(heading="Why this policy", points=explained)
    error = error_figure(run, f"{name}-error")
    if error is not None:
        yield Section(heading="Error of every layer", figures=(error,))
    roofline = roofline_figure(run, f"{name}-roofline")
    if roofline is not None:
        yield Section(heading="Roofline before and after", figures=(roofline,))
    for heading, figure in folder_figures(run, name):
        yield Section(heading=heading, figures=(figure,))
    front = pareto_figure([run], f"{name}-pareto") if is_alone else None
    if front is not None:
        yield Section(heading="Cost and score", figures=(front,))
    priced = devices_table(run, devices)
    if priced is not None:
        yield Section(heading="Other devices", tables=(("The same policy on other devices", priced),))
    shipped = tuple(_shipped(run))
    if shipped:
        yield Section(heading="Exported and verified", tables=shipped)
    notes = tuple(_notes(run))
    yield Section(heading="Provenance", tables=tuple(provenance(run)), points=notes, is_folded=True)


def _explained(run: ReportedRun) -> Iterator[str]:
    """Yield the sentences of `haq explain`, without the first, which repeats the answer; none where it has none."""
    if run.search is None or run.priced is None or not (run.folder.path / JOURNAL).is_file():
        return
    try:
        found = explain(run.folder.path)
    except (UserError, BudgetError):  # too few policies, or a device that has changed since
        return
    yield from list(sentences(found))[1:]


def _shipped(run: ReportedRun) -> Iterator[tuple[str, Table]]:
    exported = exports_table(run)
    if exported is not None:
        yield "Exported files", exported
    if run.verification is not None:
        yield "Last verification", verification_table(run.verification)


def _notes(run: ReportedRun) -> Iterator[str]:
    """Yield remarks that qualify the numbers."""
    if run.search is not None:
        yield from run.search.notes
    if isinstance(run.pricing, str):
        yield f"Costs of single layers, rooflines and reasons are left out: {run.pricing}."


def _comparison(runs: Sequence[ReportedRun]) -> Iterator[Section]:
    if len(runs) < 2:
        return
    front = pareto_figure(runs, "all-pareto")
    yield Section(heading="Runs", tables=(("Results of all runs", runs_table(runs)),))
    figures = (*policies_figures(runs, "all"), *([] if front is None else [front]))
    if figures:
        yield Section(heading="Policies side by side", figures=figures)


def _study(path: Path, name: str) -> Section:
    """Report the folder of `haq pareto` or `haq compare`."""
    if (path / SWEEP).is_file():
        from haq.reporting.plots.pareto import load_sweep
        from haq.studies.pareto.tables import report as report_sweep  # imports pandas

        blocks = report_sweep(load_sweep(path))
        return _blocks("Pareto sweep", blocks, _study_figure(path, name, "pareto"), captions=_SWEEP_TABLES)
    from haq.reporting.plots.comparison import load_comparison
    from haq.studies.comparison.tables import report as report_comparison

    blocks = report_comparison(load_comparison(path))
    figure = _study_figure(path, name, "compare")
    return _blocks("Comparison of search methods", blocks, figure, captions=_COMPARISON_TABLES)


def _study_figure(path: Path, name: str, kind: str) -> PageFigure:
    drawn = draw_run(path, "pareto") if kind == "pareto" else draw_run(path, "compare")
    alt = "Scores over costs; the table has the same numbers." if kind == "pareto" else "Scores over policies tried."
    return page_figure(drawn, name=name, alt=alt, caption="")


def _blocks(heading: str, blocks: Iterator[Block], figure: PageFigure, *, captions: Sequence[str]) -> Section:
    """Turn the blocks of a study's report into a section; Markdown marks in its texts are removed."""
    found = list(blocks)
    paragraphs = tuple(block.replace("`", "").replace("**", "") for block in found if isinstance(block, str))
    tables = (block for block in found if not isinstance(block, str))
    titled = tuple(zip(captions, tables, strict=False))  # some studies have fewer tables
    return Section(heading=heading, paragraphs=paragraphs, figures=(figure,), tables=titled)


def is_study(path: Path) -> bool:
    """Return whether a folder is that of `haq compare` or `haq pareto`.

    Args:
        path: The folder.

    Returns:
        True if it holds their document.
    """
    return any((path / name).is_file() for name in (SWEEP, COMPARISON))

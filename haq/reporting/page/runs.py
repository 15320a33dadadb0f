"""Finished runs, read from their folders for the report."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from envs.building import build_choices
from envs.choices import Budget, Choices
from haq.config import SearchConfig
from haq.costs.pricing import PricedLayers, allowed_bits
from haq.errors import UserError
from haq.experiment.policy_source import PolicySource, Workflow, policy_source
from haq.exporters.history import read_exports, read_verification
from haq.exporters.records import ExportRecord, VerificationRecord
from haq.finetuning.journal import Summary as FinetuneSummary
from haq.policy import Policy
from haq.reconstruction.records import Summary as ReconstructionSummary
from haq.reporting.plots.run import read_errors
from haq.runs.layer_errors import LAYER_ERRORS, LayerErrors
from haq.runs.records import checked
from haq.runs.run_folder import CONFIG, ENVIRONMENT, POLICY, SUMMARY, RunFolder
from haq.runs.summary import Summary
from haq.tasks.metrics import Metric, metric_of
from hardware_sim.cost import Objective, UnsupportedError
from hardware_sim.description_files import DescriptionError

AnySummary = Summary | FinetuneSummary | ReconstructionSummary
_SUMMARIES: Mapping[Workflow, type[Summary] | type[FinetuneSummary] | type[ReconstructionSummary]] = {
    "search": Summary,
    "finetune": FinetuneSummary,
    "reconstruct": ReconstructionSummary,
}
_TAKES = "haq report takes the folder of a run, as it was written"


@dataclass(frozen=True, eq=False)
class ReportedRun:
    """Finished search, fine-tuning or reconstruction.

    Attributes:
        label: Name that distinguishes the run from others on the page.
        source: Folder, policy and settings.
        workflow: Kind of the run.
        summary: Its results.
        settings: Content of `config.json`.
        environment: Content of `environment.json`; empty if there is none.
        errors: Errors of the layers; None if the run did not record them.
        exports: What was exported.
        verification: Last verification; None if there was none.
    """

    label: str
    source: PolicySource
    workflow: Workflow
    summary: AnySummary
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    errors: LayerErrors | None
    exports: tuple[ExportRecord, ...]
    verification: VerificationRecord | None

    @property
    def folder(self) -> RunFolder:
        """Folder of the run."""
        assert self.source.folder is not None
        return self.source.folder

    @property
    def config(self) -> SearchConfig:
        """Settings of the run."""
        return self.source.config

    @property
    def policy(self) -> Policy:
        """Bits of all layers."""
        return self.source.policy

    @property
    def metric(self) -> Metric:
        """Metric of the scores."""
        return metric_of(self.summary.metric)

    @property
    def objective(self) -> Objective:
        """Cost that the run, or the search of its policy, limits."""
        return self.policy.objective or self.config.objective

    @property
    def search(self) -> Summary | None:
        """Results of a search; None for another kind of run."""
        return self.summary if isinstance(self.summary, Summary) else None

    @cached_property
    def pricing(self) -> PricedLayers | str:
        """Layers with their costs, or the reason why there are none."""
        if self.source.layers() is None:
            return "the run stored no layers"
        try:
            return self.source.priced()
        except (UserError, UnsupportedError, DescriptionError) as error:
            return str(error)

    @property
    def priced(self) -> PricedLayers | None:
        """Layers with their costs; None if the folder has no layers, or their device is not here."""
        return None if isinstance(self.pricing, str) else self.pricing

    @cached_property
    def choice(self) -> Choices | None:
        """Bits that the search could choose, with their costs; None without costs, and for other runs."""
        if self.priced is None or self.search is None:
            return None
        budgets = [Budget(each.objective, each.value) for each in self.search.budget]
        return build_choices(self.priced.table, budgets, allowed_bits(self.config, self.priced))


def read_run(path: Path, *, label: str) -> ReportedRun:
    """Read a finished run.

    Args:
        path: Its folder.
        label: Name of the run on the page.

    Returns:
        The run.

    Raises:
        UserError: The folder holds no finished run, or a file is damaged.
    """
    if not path.is_dir():
        raise UserError(f"{path} is not the folder of a run; {_TAKES}")
    run = RunFolder(path)
    settings = run.read_json(CONFIG)
    if settings is None or not (path / POLICY).is_file():
        missing = POLICY if settings is not None else CONFIG
        raise UserError(f"{path} holds no finished run: {missing} is missing or damaged; {_TAKES}")
    source = policy_source(path, SearchConfig())
    document = run.read_json(SUMMARY)
    if document is None:
        raise UserError(f"{path} holds no finished run: {SUMMARY} is missing or damaged; --resume finishes a run")
    assert source.run is not None
    workflow = source.run.workflow
    errors = read_errors(run) if (path / LAYER_ERRORS).is_file() else None
    if errors is not None and [each.name for each in errors.layers] != [each.name for each in source.policy.layers]:
        raise UserError(f"{path / LAYER_ERRORS} is of other layers than {POLICY}; delete it to do without it")
    return ReportedRun(
        label=label,
        source=source,
        workflow=workflow,
        summary=checked(_SUMMARIES[workflow], document, path / SUMMARY, remedy=_TAKES),
        settings=settings,
        environment=run.read_json(ENVIRONMENT) or {},
        errors=errors,
        exports=read_exports(run),
        verification=read_verification(run),
    )


def labels(paths: list[Path]) -> list[str]:
    """Return distinct names of runs: the names of their folders, with those of parents where these are equal.

    Args:
        paths: Folders.

    Returns:
        The names.

    Examples:
        >>> labels([Path("a/run"), Path("b/run"), Path("c/other")])
        ['a/run', 'b/run', 'other']
    """
    parts = [path.resolve().parts for path in paths]
    found = []
    for each in parts:
        length = next(
            (
                count
                for count in range(1, len(each))
                if sum(other[-count:] == each[-count:] for other in parts) == parts.count(each)
            ),
            len(each),
        )
        found.append("/".join(each[-length:]))
    return found

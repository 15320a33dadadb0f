"""Comparison of search methods on the same network, data, quantizers, budgets and number of evaluations.

Every method, budget and seed is one search with a folder of its own. The policy that a method would have answered after
a number of evaluations is measured afterwards on the report split, which no method sees.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from envs.building import build_choices
from haq.costs.pricing import allowed_bits, require_feasible, resolve_budgets
from haq.errors import UserError
from haq.execution.executors import Executor
from haq.execution.processes import Processes
from haq.execution.progress import SILENT, Watcher
from haq.experiment.loading import load_priced
from haq.files import write_atomically
from haq.runs.environment import describe_environment
from haq.runs.run_folder import RunFolder
from haq.studies.comparison.cell import Cell
from haq.studies.comparison.plan import Comparison, plan
from haq.studies.comparison.records import DOCUMENT, POINTS, ComparisonDocument, ComparisonPoint


def compare(
    comparison: Comparison,
    out: Path,
    *,
    resume: bool = True,
    executor: Executor | None = None,
    watcher: Watcher = SILENT,
) -> ComparisonDocument:
    """Run the searches of a comparison that are not finished yet, and write `comparison.json`.

    Args:
        comparison: What is compared.
        out: Folder of the comparison.
        resume: Whether to continue a comparison in `out`; otherwise the folder must be empty.
        executor: Where searches run; one process of one thread by default.
        watcher: Receives the progress: one step per search.

    Returns:
        The content of `comparison.json`.

    Raises:
        UserError: A budget cannot be met, or `out` holds another comparison, searches with other settings, or anything
            at all without `resume`.
    """
    with RunFolder.opened(out, comparison.settings(), resume=resume) as earlier:
        environment = describe_environment(seed=comparison.config.seed, device=comparison.config.device)
        cells = plan(comparison, out)
        _require_feasible(cells)
        pending = [cell for cell in cells if cell.points() is None]
        finished = len(cells) - len(pending)
        watcher.begin("search", len(cells), done=finished)
        try:
            for number, _ in enumerate((executor or Processes(1)).run(pending), start=1):
                watcher.step(finished + number)
        finally:
            watcher.end()
        document = collect(comparison, cells, environment=environment)
        if earlier is None:
            RunFolder.create(out, comparison.settings(), environment, resume=True)
        write_atomically(out / DOCUMENT, json.dumps(document.to_json(), indent=1).encode())
    return document


def collect(comparison: Comparison, cells: Sequence[Cell], *, environment: dict[str, Any]) -> ComparisonDocument:
    """Read the points of all searches from their folders.

    Args:
        comparison: What was compared.
        cells: Its searches, as `plan` returns them.
        environment: Versions and machine.

    Returns:
        The document of the comparison.

    Raises:
        UserError: A search is not finished.
    """
    return ComparisonDocument(
        config=comparison.config.model_dump(mode="json"),
        agents=comparison.agents,
        budgets=comparison.budgets,
        seeds=comparison.seeds,
        checkpoints=comparison.checkpoints,
        redraw=comparison.redraw,
        environment=environment,
        records=tuple(each for point in _points(cells) for each in _of_every_seed(point, comparison)),
    )


def _points(cells: Sequence[Cell]) -> Iterator[ComparisonPoint]:
    for cell in cells:
        points = cell.points()
        if points is None:
            raise UserError(f"{cell.folder} has no complete {POINTS}; run the comparison again with --resume")
        yield from points


def _of_every_seed(point: ComparisonPoint, comparison: Comparison) -> Iterator[ComparisonPoint]:
    """Yield a point, and for a deterministic method its copies for the other seeds."""
    if not comparison.runs_once(point.agent):
        yield point
        return
    for seed in range(comparison.seeds):
        yield point.model_copy(update={"seed": comparison.config.seed + seed})


def _require_feasible(cells: Sequence[Cell]) -> None:
    """Raise UserError for a budget that no policy can meet, before anything runs."""
    configs = list({cell.config.budget: cell.config for cell in cells}.values())
    priced = load_priced(configs[0])
    for config in configs:
        budgets = resolve_budgets(config, priced)
        choice = build_choices(priced.table, [each.budget for each in budgets], allowed_bits(config, priced))
        require_feasible(choice, budgets, priced.baseline)

"""Sweep of searches over devices, objectives and budgets, in which no policy is evaluated twice.

The searches of one seed are one job (`haq.studies.pareto.chain`). Seeds are independent of each other.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from haq.execution.executors import Executor, InProcess
from haq.execution.progress import SILENT, Watcher
from haq.files import write_atomically
from haq.runs.environment import describe_environment
from haq.runs.run_folder import RunFolder
from haq.studies.pareto.chain import SearchChain, forget_prepared
from haq.studies.pareto.fronts import fronts
from haq.studies.pareto.plan import Sweep, plan
from haq.studies.pareto.records import DOCUMENT, RefusedBudget, SweepDocument


def run_sweep(
    sweep: Sweep, out: Path, *, resume: bool = True, executor: Executor | None = None, watcher: Watcher = SILENT
) -> SweepDocument:
    """Run the searches of a sweep that are not finished yet, and write `pareto.json`.

    Args:
        sweep: What is swept.
        out: Folder of the sweep.
        resume: Whether to continue a sweep in `out`; otherwise the folder must be empty.
        executor: Where the searches of each seed run; in this process by default.
        watcher: Receives the progress, in the processes that run searches.

    Returns:
        The content of `pareto.json`.

    Raises:
        UserError: No budget can be met, or `out` holds another sweep, searches with other settings, or anything at all
            without `resume`.
    """
    with RunFolder.opened(out, sweep.settings(), resume=resume) as earlier:
        environment = describe_environment(seed=sweep.config.seed, device=sweep.config.device)
        searches, refused = plan(sweep)
        chains = [
            SearchChain(searches, sweep.config.seed + number, sweep.further_episodes, out / "runs", watcher)
            for number in range(sweep.seeds)
        ]
        try:
            for _ in (executor or InProcess()).run(chains):
                pass
        finally:
            forget_prepared()
        document = collect(sweep, chains, refused=refused, environment=environment)
        if earlier is None:
            RunFolder.create(out, sweep.settings(), environment, resume=True)
        write_atomically(out / DOCUMENT, (json.dumps(document.to_json(), indent=1, allow_nan=False) + "\n").encode())
    return document


def collect(
    sweep: Sweep,
    chains: Sequence[SearchChain],
    *,
    refused: tuple[RefusedBudget, ...],
    environment: dict[str, Any],
) -> SweepDocument:
    """Read the results of all searches from their folders.

    Args:
        sweep: What was swept.
        chains: Its jobs.
        refused: Budgets that cannot be met.
        environment: Versions and machine.

    Returns:
        The document of the sweep.

    Raises:
        UserError: A search is not finished.
    """
    records = tuple(record for chain in chains for record in chain.records())
    return SweepDocument(
        config=sweep.config.model_dump(mode="json"),
        devices=tuple(dict.fromkeys(record.hardware for record in records)),
        objectives=sweep.objectives,
        budgets=sweep.budgets,
        also=sweep.also,
        seeds=sweep.seeds,
        more_episodes=sweep.further_episodes,
        environment=environment,
        records=records,
        refused=refused,
        fronts=tuple(fronts(records)),
    )

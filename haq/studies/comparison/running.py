"""Search methods held against each other: the same network, data, quantizers, budgets and number of policies tried.

A cell is one method, budget and seed, and a search like any other, with a folder of its own. What the method would have
answered after so many evaluations is measured on the report split afterwards, which no method sees.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from time import process_time
from typing import Annotated, Any

import torch
from pydantic import Field

from agents.registry import METHODS
from envs.choices import choices
from haq.config import MAX_SEEDS, SearchConfig, search_config
from haq.costs.pricing import allowed_bits, require_feasible, resolve_budgets
from haq.errors import UserError
from haq.evaluation.evaluator import Evaluator
from haq.evaluation.store import EvaluationStore
from haq.execution.processes import worker_pool
from haq.execution.progress import SILENT, Watcher
from haq.execution.user_code import is_user_code
from haq.experiment.loading import load_priced
from haq.experiment.methods import uses_prior
from haq.experiment.prior.compute import compute_prior
from haq.experiment.prior.layer_losses import LayerLosses
from haq.experiment.problem import Network, prepare, prepare_network
from haq.files import write_atomically
from haq.runs.environment import describe_environment
from haq.runs.records import Amount, Count, Finite, Record, holds
from haq.runs.run_folder import RunFolder, safe_name
from haq.searching.goals import distinct
from haq.searching.running import begin_session, run_episodes
from haq.searching.session import Session

POINTS, DOCUMENT = "points.json", "comparison.json"
_SEARCH_ALONE = {"agent", "budget", "seed", "episodes", "hardware", "batch", "objective", "pin", "first_last_bits"}
"""Settings that a network does not depend on, unless every policy is fine-tuned: that draws from the seed."""


class Point(Record):
    """What a record of `points.json` has to say; one of a method that found nothing has no accuracy."""

    agent: str
    budget: str
    seed: Count
    evaluations: Count
    forward_images: Count
    cpu_seconds: Amount
    accuracy: Finite | None
    report_divergence: Amount | None
    report_noise: Amount | None
    accuracy_fp32: Finite
    report_images: Annotated[int, Field(strict=True, ge=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is compared; `config` holds everything else."""

    config: SearchConfig
    agents: tuple[str, ...]
    budgets: tuple[str, ...]
    seeds: int
    checkpoints: tuple[int, ...]
    """Numbers of policies tried at which the methods are compared."""
    redraw: bool = False
    """Whether every seed draws its own images, so that intervals hold for other images as well."""

    def __post_init__(self) -> None:
        for name in ("agents", "budgets", "checkpoints"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise UserError(f"compare needs {name}, each once; got {', '.join(map(str, values)) or 'none'}")
        if not 1 <= self.seeds <= MAX_SEEDS or min(self.checkpoints) < 1:
            raise UserError(f"compare needs 1 to {MAX_SEEDS} seeds, and checkpoints of at least one evaluation")
        if self.redraw and is_user_code(self.config.data):
            raise UserError(f"--redraw draws other splits, and those of {self.config.data} are its own; leave it out")

    def document(self) -> dict[str, Any]:
        """What its folder is known by."""
        asked = {name: list(getattr(self, name)) for name in ("agents", "budgets", "checkpoints")}
        return {**self.config.model_dump(mode="json"), "compare": {**asked, "seeds": self.seeds, "redraw": self.redraw}}

    def runs_once(self, agent: str) -> bool:
        """Whether a method answers the same for every seed, and is run for the first alone."""
        return METHODS[agent].is_deterministic and not self.redraw

    def cells(self, out: Path) -> Iterator["Cell"]:
        """Every search that it takes, the seeds outermost, so that an early end leaves whole comparisons."""
        for seed in range(self.seeds):
            for budget in self.budgets:
                for agent in self.agents:
                    if seed and self.runs_once(agent):
                        continue
                    settings = {
                        "data": self.config.data,  # said even where it is the default: it decides on the input's shape
                        "agent": agent,
                        "budget": (budget,),
                        "seed": self.config.seed + seed,
                        "split_seed": self.config.split_seed + (seed if self.redraw else 0),
                        "episodes": max(self.checkpoints),
                    }
                    config = search_config(**{**self.config.model_dump(exclude_unset=True), **settings})
                    folder = out / "runs" / f"{agent}-{safe_name(budget)}-s{config.seed}"
                    yield Cell(config, folder, self.checkpoints)


@dataclass(frozen=True, slots=True)
class Cell:
    """One search, and where it lies."""

    config: SearchConfig
    folder: Path
    checkpoints: tuple[int, ...]


def compare(
    question: Question, out: Path, *, resume: bool = True, workers: int = 1, watcher: Watcher = SILENT
) -> dict[str, Any]:
    """Run what is missing in a folder, in so many processes of one thread each, and put the answers together.

    Returns the document that is written to `comparison.json`: the question, the versions, and one record for each
    method, budget, seed and checkpoint. Raises UserError where a folder holds another comparison, or runs of other
    settings, or anything without `resume`.
    """
    with RunFolder.opened(out, question.document(), resume=resume) as known:
        document = _answers(question, out, workers=workers, watcher=watcher)
        if known is None:
            RunFolder.create(out, question.document(), document["environment"], resume=True)
        write_atomically(out / DOCUMENT, json.dumps(document, indent=1).encode())
    return document


def _answers(question: Question, out: Path, *, workers: int, watcher: Watcher) -> dict[str, Any]:
    """Run the searches of a comparison that are missing in its folder, and put all together."""
    cells, records = list(question.cells(out)), []
    environment = describe_environment(seed=question.config.seed, device=question.config.device)
    watcher.phase("price budgets")
    _require_feasible(cells)
    watcher.begin("search", len(cells))
    try:
        with worker_pool(workers) as pool:
            for done, found in enumerate(pool.map(run_cell, cells), start=1):
                records += found
                watcher.step(done)
    finally:
        watcher.end()
    return {
        "config": question.config.model_dump(mode="json"),
        "agents": list(question.agents),
        "budgets": list(question.budgets),
        "seeds": question.seeds,
        "checkpoints": list(question.checkpoints),
        "redraw": question.redraw,
        "environment": environment,
        "records": [again for record in records for again in _of_every_seed(record, question)],
    }


def _require_feasible(cells: Iterable[Cell]) -> None:
    """Raise UserError for a budget that no policy can meet, before anything runs."""
    configs = list({cell.config.budget: cell.config for cell in cells}.values())
    priced = load_priced(configs[0])
    for config in configs:
        budgets = resolve_budgets(config, priced)
        choice = choices(priced.table, [each.budget for each in budgets], allowed_bits(config, priced))
        require_feasible(choice, budgets, priced.baseline)


def _of_every_seed(record: dict[str, Any], question: Question) -> Iterator[dict[str, Any]]:
    """A record, and those of the other seeds where chance has no part."""
    if not question.runs_once(record["agent"]):
        yield record
        return
    for seed in range(question.seeds):
        yield {**record, "seed": question.config.seed + seed}


def run_cell(cell: Cell) -> list[dict[str, Any]]:
    """One record for every checkpoint of a cell; from its folder where it is through already."""
    kept = kept_records(cell)
    if kept is not None:
        return kept
    torch.set_num_threads(1)
    prepared = _prepared(shared_settings(cell.config))
    losses = _losses(cell.config)
    began = process_time()
    config = cell.config.model_dump(mode="json")
    with RunFolder.opened(cell.folder, config, resume=True) as run:
        problem = prepare(cell.config, network=prepared.network)
        session = begin_session(problem, losses=losses, store=prepared.store)
        environment = describe_environment(seed=cell.config.seed, device=cell.config.device)
        session.enter(run or RunFolder.create(cell.folder, config, environment, resume=True))
        run_episodes(session)
        cpu_seconds = process_time() - began
        records = [_record(session, count, prepared) for count in cell.checkpoints]
        for record in records:
            record["cpu_seconds"] = round(cpu_seconds * record["evaluations"] / max(cell.checkpoints), 3)
        write_atomically(cell.folder / POINTS, json.dumps(records).encode())
    return records


def _record(session: Session, count: int, prepared: "_Prepared") -> dict[str, Any]:
    """What the method would have answered after so many policies, and what that took."""
    config, task, lines = session.problem.config, session.problem.task, session.lines[:count]
    report = prepared.report
    facts = _facts(config, count) | {"accuracy_fp32": report.accuracy_fp32, "report_images": task.size("report")}
    tried = sum(1 for _ in distinct(lines))
    more = prepared.network.engine.images_per_policy
    losses = _losses(config)
    before = prepared.network.calibration_images + (losses.forward_images if losses else 0)
    cost = {"distinct": tried, "forward_images": before + (tried + 1) * (task.size("search") + more)}
    if not any(session.goal.meets(line) for line in lines):
        return {**facts, **cost, "accuracy": None, "report_divergence": None, "report_noise": None}
    selection = session.select(count)
    winner = selection.winner
    if selection.finalists:
        cost["forward_images"] += (len(selection.finalists) + 1) * (task.size("selection") + more)
    reported = report.evaluate(winner["w_bits"], winner["a_bits"])
    return {
        **facts,
        **cost,
        "cost": winner["cost"],
        "search_accuracy": winner["accuracy"],
        "selection_accuracy": selection.accuracy,
        "divergence": winner["divergence"],
        "noise": winner["noise"],
        "accuracy": reported.accuracy,
        "report_divergence": reported.divergence,
        "report_noise": reported.noise,
    }


def _facts(config: SearchConfig, count: int) -> dict[str, Any]:
    """What tells a record from all others."""
    return {"agent": config.agent, "budget": config.budget[0], "seed": config.seed, "evaluations": count}


def shared_settings(config: SearchConfig) -> str:
    """What the network of a cell depends on, as text."""
    return config.model_dump_json(exclude=_SEARCH_ALONE - ({"seed"} if config.episode_finetune_steps else set()))


def kept_records(cell: Cell) -> list[dict[str, Any]] | None:
    """The records that an earlier call left, if they are of these checkpoints.

    Raises UserError where that call had other settings.
    """
    if RunFolder.reopen(cell.folder, cell.config.model_dump(mode="json")) is None:
        return None
    try:
        records: list[dict[str, Any]] = json.loads((cell.folder / POINTS).read_text(encoding="utf-8"))
        is_whole = all(holds(Point, record) for record in records)
        facts = [{key: record[key] for key in _facts(cell.config, 0)} for record in records if is_whole]
    except (FileNotFoundError, IsADirectoryError, ValueError, TypeError):
        return None
    return records if is_whole and facts == [_facts(cell.config, count) for count in cell.checkpoints] else None


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """What all cells of a process share."""

    network: Network
    report: Evaluator
    store: EvaluationStore | None


@lru_cache(maxsize=1)
def _prepared(settings: str) -> _Prepared:
    """Once in every process."""
    config = search_config(**json.loads(settings))
    # What is trained for every policy is not worth the probes that a key is made of.
    store = None if config.episode_finetune_steps else EvaluationStore()
    network = prepare_network(config)
    report = Evaluator(network.engine, network.task, "report", batch_size=config.eval_batch, store=store)
    report.kept(len(network.priced.layers))  # calibrates: no cell's time is to hold that
    return _Prepared(network, report, store)


def _losses(config: SearchConfig) -> LayerLosses | None:
    """What the method of a cell knows beforehand."""
    return _known(shared_settings(config)) if uses_prior(config) else None


@lru_cache(maxsize=1)
def _known(settings: str) -> LayerLosses | None:
    """The prior of all cells of a process that look at one."""
    return compute_prior(_prepared(settings).network, search_config(**json.loads(settings)).prior)

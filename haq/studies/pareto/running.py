"""A sweep of searches over devices, objectives and budgets, in which no policy is evaluated twice.

What a policy earns depends on neither device nor budget. So the searches of one seed come one after the other in one
process, every device's from the most generous budget to the tightest: the first takes as many episodes as any search,
the others are told all that came before (`haq.searching.warm_start`) and take a few. Seeds know nothing of each other,
and may run side by side.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from envs.choices import BudgetError, Choices, choices
from haq.config import MAX_SEEDS, SearchConfig, search_config
from haq.costs.pricing import PricedLayers, allowed_bits, require_feasible, resolve_budgets
from haq.errors import UserError
from haq.evaluation.store import EngineStore, EvaluationStore
from haq.execution.processes import worker_pool
from haq.execution.progress import SILENT, Watcher
from haq.experiment.inputs import Inputs, Observations
from haq.experiment.loading import load_priced
from haq.experiment.methods import uses_prior
from haq.experiment.prior.compute import compute_prior
from haq.experiment.problem import prepare_network
from haq.files import write_atomically
from haq.formatting import device_title, percent
from haq.runs.environment import describe_environment
from haq.runs.run_folder import RunFolder, safe_name
from haq.searching.goals import Line, distinct
from haq.searching.running import SearchResult, search_configured
from haq.searching.warm_start import opening
from haq.studies.pareto.fronts import DOCUMENT, fronts
from haq.tasks.metrics import metric_named
from hardware_sim.catalog import load_accelerator
from hardware_sim.cost import Objective

SHARE_OF_MORE = 0.3
"""What all searches after the first take together, unless somebody says otherwise, in parts of the first."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What is swept; `config` holds everything else, the episodes of the first search among it."""

    config: SearchConfig
    devices: tuple[str, ...]
    objectives: tuple[Objective, ...]
    budgets: tuple[str, ...]
    """Of every objective; a ratio, or such as `4bits`."""
    also: tuple[str, ...] = ()
    """Budgets for other costs, which hold for every search."""
    seeds: int = 1
    more_episodes: int | None = None
    """New policies of every further search; None for as many as make 0.3 times the first all together."""

    def __post_init__(self) -> None:
        for name in ("devices", "objectives", "budgets"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise UserError(f"pareto needs {name}, each once; got {', '.join(map(str, values)) or 'none'}")
        if not 1 <= self.seeds <= MAX_SEEDS or (self.more_episodes is not None and self.more_episodes < 1):
            raise UserError(f"pareto needs 1 to {MAX_SEEDS} seeds, and at least one episode for every further budget")
        for settings in ({"seed": self.config.seed + self.seeds - 1}, {"episodes": self.more}):
            search_config(**{**self.config.model_dump(exclude_unset=True), **settings})
        if self.config.max_accuracy_drop is not None:
            raise UserError("--max-accuracy-drop looks for one policy; pareto takes --budgets")

    def document(self) -> Json:
        """What its folder is known by."""
        asked = {name: list(getattr(self, name)) for name in ("devices", "objectives", "budgets", "also")}
        numbers = {"seeds": self.seeds, "more_episodes": self.more}
        return {**self.config.model_dump(mode="json"), "pareto": {**asked, **numbers}}

    @property
    def more(self) -> int:
        """New policies of every further search."""
        if self.more_episodes is not None:
            return self.more_episodes
        others = len(self.devices) * len(self.objectives) * len(self.budgets) - 1
        return max(1, int(SHARE_OF_MORE * self.config.episodes / max(others, 1)))


@dataclass(frozen=True, slots=True)
class Cell:
    """One search before its seed is known."""

    config: SearchConfig
    ratio: float
    """Of the objective's cost with 8 bits."""
    choice: Choices
    name: str


@dataclass(frozen=True, slots=True)
class Chain:
    """The searches of one seed, in their order."""

    cells: tuple[Cell, ...]
    seed: int
    more: int
    folder: Path
    watcher: Watcher


def sweep(question: Sweep, out: Path, *, resume: bool = True, workers: int = 1, watcher: Watcher = SILENT) -> Json:
    """Run what is missing in a folder, and put the answers together; more than one worker are processes of one thread.

    Returns the document that is written to `pareto.json`: the question, the versions, one record for each search, the
    budgets that a device cannot meet, and the fronts. Raises UserError where no budget can be met, or where the folder
    holds another sweep, or runs of other settings, or anything without `resume`.
    """
    with RunFolder.opened(out, question.document(), resume=resume) as known:
        document = _answers(question, out, workers=workers, watcher=watcher)
        if known is None:
            RunFolder.create(out, question.document(), document["environment"], resume=True)
        write_atomically(out / DOCUMENT, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())
    return document


def _answers(question: Sweep, out: Path, *, workers: int, watcher: Watcher) -> Json:
    """Run the searches of a sweep that are missing in its folder, and put all together."""
    environment = describe_environment(seed=question.config.seed, device=question.config.device)
    watcher.phase("price budgets")
    cells, refused = plan(question)
    chains = [
        Chain(cells, question.config.seed + number, question.more, out / "runs", watcher)
        for number in range(question.seeds)
    ]
    if workers > 1:
        with worker_pool(workers) as pool:
            found = list(pool.map(run_chain, chains))
    else:
        found = [run_chain(chain) for chain in chains]
    records = [record for records in found for record in records]
    return {
        "config": question.config.model_dump(mode="json"),
        "devices": list(dict.fromkeys(record["hardware"] for record in records)),
        "objectives": list(question.objectives),
        "budgets": list(question.budgets),
        "also": list(question.also),
        "seeds": question.seeds,
        "more_episodes": question.more,
        "environment": environment,
        "records": records,
        "refused": refused,
        "fronts": fronts(records),
    }


def plan(question: Sweep) -> tuple[tuple[Cell, ...], list[Json]]:
    """The searches in their order, and the budgets that cannot be met. Nothing is evaluated.

    Raises UserError if that leaves no search.
    """
    cells, refused = [], []
    _require_distinct(question.devices)
    for device in question.devices:
        priced: PricedLayers | None = None
        for objective in question.objectives:
            of_objective = []
            for budget in question.budgets:
                settings = {"hardware": device, "objective": objective, "budget": (budget, *question.also)}
                data = {"data": question.config.data}  # even where it is the default: it decides on the input's shape
                config = search_config(**{**question.config.model_dump(exclude_unset=True), **settings, **data})
                priced = priced or load_priced(config)
                try:
                    of_objective.append(_cell(config, priced))
                except BudgetError as error:
                    refused.append({**settings, "budget": budget, "reason": str(error)})
            cells += sorted(of_objective, key=lambda cell: -cell.ratio)
    if not cells:
        raise UserError(f"none of these budgets can be met; the first: {refused[0]['reason']}")
    return tuple(cells), refused


def run_chain(chain: Chain) -> list[Json]:
    """The records of all searches of one seed."""
    inputs: Inputs | None = None
    lines: list[Line] = []
    records = []
    for number, cell in enumerate(chain.cells, start=1):
        observations = _observations(cell.choice, lines)
        episodes = chain.more + len(opening(cell.choice, observations)) if lines else cell.config.episodes
        config = cell.config.model_copy(update={"seed": chain.seed, "episodes": episodes})
        folder = chain.folder / f"{cell.name}-s{chain.seed}"
        run = RunFolder(folder)
        if inputs is None and not run.is_finished:
            inputs = _prepared(config, chain.folder.parent / "evaluations", chain.watcher)
        chain.watcher.phase(f"search {number} of {len(chain.cells)}")
        result = search_configured(
            config, folder, inputs=replace(inputs or Inputs(), observations=observations), resume=True
        )
        before = {_key(line) for line in lines}
        lines += [line for line in distinct(run.episodes()) if _key(line) not in before]
        records.append(_record(cell, config, result, new=len(lines) - len(before)) | {"run": folder.name})
        chain.watcher.line(_result(records[-1]))
    return records


def _require_distinct(devices: Sequence[str]) -> None:
    """Raise UserError for two devices of one name, which names the folders of their searches."""
    named: dict[str, str] = {}
    for device in devices:
        name = load_accelerator(device).name
        if name in named:
            raise UserError(f"{named[name]} and {device} are both called {name}; give each device a name of its own")
        named[name] = device


def _prepared(config: SearchConfig, evaluations: Path, watcher: Watcher) -> Inputs:
    """What all searches have in common."""
    network = prepare_network(config, progress=watcher.phase)
    losses = None
    if uses_prior(config):
        watcher.phase("sensitivities")
        losses = compute_prior(network, config.prior)
    # A policy that is trained is not worth the trainings that a lasting key is made of.
    store = EngineStore() if config.episode_finetune_steps else EvaluationStore(evaluations)
    return Inputs(network=network, store=store, losses=losses)


def _cell(config: SearchConfig, priced: PricedLayers) -> Cell:
    """Raises BudgetError for a budget that cannot be met."""
    budgets = resolve_budgets(config, priced)
    choice = choices(priced.table, [each.budget for each in budgets], allowed_bits(config, priced))
    try:
        require_feasible(choice, budgets, priced.baseline)
    except UserError as error:
        raise BudgetError(str(error)) from error
    name = "-".join((load_accelerator(config.hardware).name, config.objective, config.budget[0]))
    return Cell(config, budgets[0].ratio, choice, safe_name(name))


def _observations(choice: Choices, lines: Sequence[Line]) -> Observations:
    """What is known of all policies, the best first; of equal ones that with the outputs closest to the float ones."""
    ranked = sorted(lines, key=lambda line: (-line["score"], line["noise"]))
    first = list(choice.layer_of_decision)
    return [(np.array([line["w_bits"], line["a_bits"]], dtype=np.int64).T[first], line["score"]) for line in ranked]


def _key(line: Line) -> tuple[int, ...]:
    return (*line["w_bits"], *line["a_bits"])


def _result(record: Json) -> str:
    """Describe the result of a search."""
    return (
        f"seed {record['seed']}  {record['hardware']}  {record['objective']} at {record['budget']}: "
        f"{metric_named(record['metric']).text(record['accuracy'])} at {percent(record['cost_ratio'])} of 8 bits, "
        f"new evaluations: {record['new_evaluations']}"
    )


def _record(cell: Cell, config: SearchConfig, result: SearchResult, *, new: int) -> Json:
    summary = result.summary
    shared = ("cost", "baseline_cost", "cost_ratio", "accuracy", "accuracy_fp32", "search_accuracy", "report_images")
    return {
        "hardware": device_title(config.hardware),
        "objective": config.objective,
        "budget": config.budget[0],
        "budget_ratio": cell.ratio,
        "seed": config.seed,
        "episodes": summary["episodes"],
        "new_evaluations": new,
        **{key: summary[key] for key in shared},
        "metric": summary["metric"]["name"],
        "uniform": summary["uniform"],
        "w_bits": list(result.policy.w_bits),
        "a_bits": list(result.policy.a_bits),
    }

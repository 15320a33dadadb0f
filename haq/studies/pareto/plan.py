"""Plan of a sweep: its searches in their order, and the budgets that cannot be met."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from envs.building import build_choices
from envs.choices import BudgetError, Choices
from haq.config import SearchConfig, search_config
from haq.costs.pricing import PricedLayers, allowed_bits, require_feasible, resolve_budgets
from haq.errors import UserError
from haq.experiment.loading import load_priced, load_traced
from haq.runs.run_folder import safe_name
from haq.settings import MAX_SEEDS
from haq.studies.pareto.records import RefusedBudget
from hardware_sim.catalog import load_accelerator
from hardware_sim.cost import Objective

SHARE_OF_FURTHER = 0.3
"""Default number of new policies of all searches after the first of a seed together, over those of the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Settings of a sweep: every budget of every objective on every device.

    Attributes:
        config: Settings that all searches share. Its episodes are those of the first search of a seed, its seed is the
            first one.
        devices: Devices as on the command line.
        objectives: Costs that searches limit.
        budgets: Budgets for each of them, ratios or such as `4bits`.
        also: Budgets for other costs, which hold for every search.
        seeds: Number of seeds.
        more_episodes: New policies of every search after the first of a seed; None for so many that all of them
            together take 0.3 times as many as the first.

    Raises:
        UserError: A value is missing, repeated or out of range.
    """

    config: SearchConfig
    devices: tuple[str, ...]
    objectives: tuple[Objective, ...]
    budgets: tuple[str, ...]
    also: tuple[str, ...] = ()
    seeds: int = 1
    more_episodes: int | None = None

    def __post_init__(self) -> None:
        for name in ("devices", "objectives", "budgets"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise UserError(f"pareto needs {name}, each once; got {', '.join(map(str, values)) or 'none'}")
        if not 1 <= self.seeds <= MAX_SEEDS or (self.more_episodes is not None and self.more_episodes < 1):
            raise UserError(f"pareto needs 1 to {MAX_SEEDS} seeds, and at least one episode for every further budget")
        for settings in ({"seed": self.config.seed + self.seeds - 1}, {"episodes": self.further_episodes}):
            search_config(**{**self.config.model_dump(exclude_unset=True), **settings})
        if self.config.max_accuracy_drop is not None:
            raise UserError("--max-accuracy-drop looks for one policy; pareto takes --budgets")

    def settings(self) -> dict[str, Any]:
        """Return the content of `config.json`, which identifies the sweep when it is resumed."""
        lists = {name: list(getattr(self, name)) for name in ("devices", "objectives", "budgets", "also")}
        numbers = {"seeds": self.seeds, "more_episodes": self.further_episodes}
        return {**self.config.model_dump(mode="json"), "pareto": {**lists, **numbers}}

    @property
    def further_episodes(self) -> int:
        """Number of new policies of every search after the first of a seed."""
        if self.more_episodes is not None:
            return self.more_episodes
        others = len(self.devices) * len(self.objectives) * len(self.budgets) - 1
        return max(1, int(SHARE_OF_FURTHER * self.config.episodes / max(others, 1)))


@dataclass(frozen=True, slots=True)
class PlannedSearch:
    """One search of every seed.

    Attributes:
        config: Its settings but for the seed and the number of episodes.
        ratio: Budget for the objective over the cost of 8 bits everywhere.
        choice: Bits that may be chosen, and the limits.
        name: Start of the name of its folder.
    """

    config: SearchConfig
    ratio: float
    choice: Choices
    name: str


def plan(sweep: Sweep) -> tuple[tuple[PlannedSearch, ...], tuple[RefusedBudget, ...]]:
    """List the searches of a seed in their order: of every device and objective the largest budget first.

    The network is built and traced for the prices of its layers. Nothing is evaluated or written.

    Args:
        sweep: What is swept.

    Returns:
        The searches, and the budgets that cannot be met.

    Raises:
        UserError: No budget can be met, or two devices have the same name.
    """
    searches: list[PlannedSearch] = []
    refused: list[RefusedBudget] = []
    _require_distinct(sweep.devices)
    for priced, configs in _priced_configs(sweep):
        of_objective = []
        for config in configs:
            try:
                of_objective.append(_planned_search(config, priced))
            except BudgetError as error:
                refused.append(
                    RefusedBudget(
                        hardware=config.hardware,
                        objective=config.objective,
                        budget=config.budget[0],
                        reason=str(error),
                    )
                )
        searches += sorted(of_objective, key=lambda search: -search.ratio)
    if not searches:
        raise UserError(f"none of these budgets can be met; the first: {refused[0].reason}")
    return tuple(searches), tuple(refused)


def _priced_configs(sweep: Sweep) -> Iterator[tuple[PricedLayers, list[SearchConfig]]]:
    """Yield the settings of all budgets for every device and objective, with the layers priced on the device."""
    trace = None
    for device in sweep.devices:
        priced: PricedLayers | None = None
        for objective in sweep.objectives:
            configs = [_search_config(sweep, device, objective, budget) for budget in sweep.budgets]
            trace = trace or load_traced(configs[0])
            priced = priced or load_priced(configs[0], layers=trace)
            yield priced, configs


def _search_config(sweep: Sweep, device: str, objective: Objective, budget: str) -> SearchConfig:
    settings = {
        "data": sweep.config.data,  # explicit even if it is the default, as it determines the shape of an input
        "hardware": device,
        "objective": objective,
        "budget": (budget, *sweep.also),
    }
    return search_config(**{**sweep.config.model_dump(exclude_unset=True), **settings})


def _planned_search(config: SearchConfig, priced: PricedLayers) -> PlannedSearch:
    """Resolve a budget. Raises BudgetError if it cannot be met."""
    budgets = resolve_budgets(config, priced)
    choice = build_choices(priced.table, [each.budget for each in budgets], allowed_bits(config, priced))
    try:
        require_feasible(choice, budgets, priced.baseline)
    except UserError as error:
        raise BudgetError(str(error)) from error
    name = "-".join((load_accelerator(config.hardware).name, config.objective, config.budget[0]))
    return PlannedSearch(config, budgets[0].ratio, choice, safe_name(name))


def _require_distinct(devices: Sequence[str]) -> None:
    """Raise UserError for two devices of one name, as the folders of their searches are named after it."""
    named: dict[str, str] = {}
    for device in devices:
        name = load_accelerator(device).name
        if name in named:
            raise UserError(f"{named[name]} and {device} are both called {name}; give each device a name of its own")
        named[name] = device

"""Plan of a comparison: the searches that it consists of."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.registry import METHODS
from haq.config import SearchConfig, search_config
from haq.errors import UserError
from haq.runs.run_folder import safe_name
from haq.settings import MAX_SEEDS
from haq.studies.comparison.cell import Cell
from haq.tasks import is_user_data


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Settings of a comparison.

    Attributes:
        config: Settings that all searches share; its seed is the first one.
        agents: Search methods. The first is compared with each of the others.
        budgets: Budgets as on the command line.
        seeds: Number of seeds.
        checkpoints: Numbers of evaluations at which the methods are compared.
        redraw: Whether every seed draws its own images, so that intervals also cover the choice of images.

    Raises:
        UserError: A value is missing, repeated or out of range, or `redraw` is set for data that bring their splits.
    """

    config: SearchConfig
    agents: tuple[str, ...]
    budgets: tuple[str, ...]
    seeds: int
    checkpoints: tuple[int, ...]
    redraw: bool = False

    def __post_init__(self) -> None:
        for name in ("agents", "budgets", "checkpoints"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise UserError(f"compare needs {name}, each once; got {', '.join(map(str, values)) or 'none'}")
        if not 1 <= self.seeds <= MAX_SEEDS or min(self.checkpoints) < 1:
            raise UserError(f"compare needs 1 to {MAX_SEEDS} seeds, and checkpoints of at least one evaluation")
        if self.redraw and is_user_data(self.config.data):
            raise UserError(f"--redraw draws other splits, and those of {self.config.data} are its own; leave it out")

    def settings(self) -> dict[str, Any]:
        """Return the content of `config.json`, which identifies the comparison when it is resumed."""
        lists = {name: list(getattr(self, name)) for name in ("agents", "budgets", "checkpoints")}
        return {**self.config.model_dump(mode="json"), "compare": {**lists, "seeds": self.seeds, "redraw": self.redraw}}

    def runs_once(self, agent: str) -> bool:
        """Return whether a method is run for the first seed only, as its answer is the same for all.

        Args:
            agent: Search method.

        Returns:
            True for deterministic methods, unless every seed draws its own images.
        """
        return METHODS[agent].is_deterministic and not self.redraw


def plan(comparison: Comparison, out: Path) -> tuple[Cell, ...]:
    """List the searches of a comparison; nothing is loaded, evaluated or written.

    Seeds are outermost, so that an early end leaves whole comparisons.

    Args:
        comparison: Settings of a comparison.
        out: Folder of the comparison. Every search gets a folder below `runs/`.

    Returns:
        One cell per method, budget and seed; of deterministic methods one per method and budget.
    """
    return tuple(_cells(comparison, out))


def _cells(comparison: Comparison, out: Path) -> Iterator[Cell]:
    for seed in range(comparison.seeds):
        for budget in comparison.budgets:
            for agent in comparison.agents:
                if seed and comparison.runs_once(agent):
                    continue
                config = _cell_config(comparison, agent, budget, seed)
                folder = out / "runs" / f"{agent}-{safe_name(budget)}-s{config.seed}"
                yield Cell(config, folder, comparison.checkpoints)


def _cell_config(comparison: Comparison, agent: str, budget: str, seed: int) -> SearchConfig:
    config = comparison.config
    settings = {
        "data": config.data,  # explicit even if it is the default, as it determines the shape of an input
        "agent": agent,
        "budget": (budget,),
        "seed": config.seed + seed,
        "split_seed": config.split_seed + (seed if comparison.redraw else 0),
        "episodes": max(comparison.checkpoints),
    }
    return search_config(**{**config.model_dump(exclude_unset=True), **settings})

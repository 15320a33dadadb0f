"""Content of `pareto.json`."""

from typing import Any

from pydantic import Field

from haq.layer_bits import Width
from haq.policy import CostSummary
from haq.runs.records import Amount, Count, Finite
from haq.runs.summary import UniformResult
from haq.studies.documents import DocumentRecord
from hardware_sim.cost import Objective

DOCUMENT = "pareto.json"


class SweepRecord(DocumentRecord):
    """Result of one search.

    Attributes:
        hardware: Title of the device.
        objective: Cost that the search limits.
        budget: Budget for it, as it was given.
        budget_ratio: The same over the cost of 8 bits everywhere.
        seed: Seed of the search.
        episodes: Number of episodes.
        new_evaluations: Number of different policies that no earlier search of the seed evaluated.
        cost: Cost of the policy in SI units.
        baseline_cost: Cost of 8 bits everywhere.
        cost_ratio: Cost in the objective over that of 8 bits everywhere.
        accuracy: Score of the policy on the report split.
        accuracy_fp32: Score of the float network on the report split.
        search_accuracy: Score of the policy on the search split.
        report_images: Number of images of the report split.
        metric: Name of the score.
        uniform: Uniform bits within the budget.
        w_bits: Weight bits of the policy [layer].
        a_bits: Input activation bits of the policy [layer].
        run: Name of the search's folder in `runs/`.
    """

    hardware: str
    objective: Objective
    budget: str
    budget_ratio: Amount
    seed: Count
    episodes: Count
    new_evaluations: Count
    cost: CostSummary
    baseline_cost: CostSummary
    cost_ratio: Amount
    accuracy: Finite
    accuracy_fp32: Finite
    search_accuracy: Finite
    report_images: Count
    metric: str
    uniform: tuple[UniformResult, ...]
    w_bits: tuple[Width, ...]
    a_bits: tuple[Width, ...]
    run: str


class RefusedBudget(DocumentRecord):
    """Budget that no policy can meet, and why."""

    hardware: str
    objective: Objective
    budget: str
    reason: str


class FrontPoint(DocumentRecord):
    """Policy on a front: its cost in SI units, and its score on the report split."""

    cost: Amount
    accuracy: Finite


class Front(DocumentRecord):
    """Pareto front of the searches of one device and seed, or of uniform bits, for one cost.

    Attributes:
        hardware: Title of the device.
        axis: Cost against which scores are compared.
        seed: Seed of the searches; None for uniform bits.
        is_uniform: Whether the points are uniform bits.
        points: Points of the front, the cheapest first.
        candidates: Number of different points among which they are.
        tightest: Smallest budget that was searched for, over the cost of 8 bits everywhere; None if no search limits
            this cost.
        hypervolume: Area that the front dominates; None if no search limits this cost or scores are not accuracies.
    """

    hardware: str
    axis: Objective
    seed: Count | None
    is_uniform: bool
    points: tuple[FrontPoint, ...]
    candidates: Count
    tightest: Amount | None
    hypervolume: Amount | None


class SweepDocument(DocumentRecord):
    """Settings, environment and results of a sweep.

    Attributes:
        config: Settings that all searches share, as JSON values.
        devices: Titles of the devices.
        objectives: Costs that searches limit.
        budgets: Budgets for each of them, as they were given.
        also: Budgets for other costs that hold for every search.
        seeds: Number of seeds.
        more_episodes: New policies of every search after the first of a seed.
        environment: Versions and machine.
        records: Results of all searches, in their order, seed by seed.
        refused: Budgets that cannot be met.
        fronts: Pareto fronts of all devices and costs.
    """

    config: dict[str, Any]
    devices: tuple[str, ...] = Field(min_length=1)
    objectives: tuple[Objective, ...]
    budgets: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    seeds: int
    more_episodes: int = 0
    environment: dict[str, Any] = Field({})
    records: tuple[SweepRecord, ...] = Field(min_length=1)
    refused: tuple[RefusedBudget, ...] = ()
    fronts: tuple[Front, ...] = Field(min_length=1)

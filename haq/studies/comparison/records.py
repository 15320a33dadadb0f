"""Files of a comparison: the points of a search, and the document of all searches."""

from typing import Annotated, Any

from pydantic import Field

from haq.runs.records import Amount, Count, Finite
from haq.studies.documents import DocumentRecord

POINTS, DOCUMENT = "points.json", "comparison.json"
"""File in the folder of each search, and file in the folder of the comparison."""


class ComparisonPoint(DocumentRecord):
    """Policy that a method would have answered after a number of evaluations, and what it took to find it.

    Attributes:
        agent: Search method.
        budget: Budget as it was given.
        seed: Seed of the search.
        evaluations: Number of episodes.
        accuracy_fp32: Score of the float network on the report split.
        report_images: Number of images of the report split.
        metric: Name of the metric of all scores.
        distinct: Number of different policies among the episodes.
        forward_images: Images that all evaluations, the prior and the choice of the winner take.
        cost: Cost of the policy in the objective's SI unit. Like the fields down to `report_noise` it is missing or
            None if the method found no policy within the budget.
        search_accuracy: Score of the policy on the search split.
        selection_accuracy: Score on the selection split, if there is one.
        divergence: KL divergence from the float network's outputs on the search split, in nats.
        noise: Relative output error on the search split.
        accuracy: Score on the report split.
        report_divergence: KL divergence on the report split, in nats.
        report_noise: Relative output error on the report split.
        cpu_seconds: Processor time of the search, in proportion to the number of episodes.
    """

    agent: str
    budget: str
    seed: Count
    evaluations: Count
    accuracy_fp32: Finite
    report_images: Annotated[int, Field(strict=True, ge=1)]
    metric: str = "accuracy"
    distinct: Count = 0
    forward_images: Count
    cost: Amount | None = None
    search_accuracy: Finite | None = None
    selection_accuracy: Finite | None = None
    divergence: Finite | None = None
    noise: Finite | None = None
    accuracy: Finite | None
    report_divergence: Finite | None
    report_noise: Finite | None
    cpu_seconds: Amount


class ComparisonDocument(DocumentRecord):
    """Content of `comparison.json`: what was compared, on which machine, and one point per search and checkpoint.

    Attributes:
        config: Settings that all searches share, as JSON values.
        agents: Search methods. The first is compared with each of the others.
        budgets: Budgets as they were given.
        seeds: Number of seeds.
        checkpoints: Numbers of evaluations at which the methods are compared.
        redraw: Whether every seed draws its own images.
        environment: Versions and machine.
        records: Points of all searches. Those of a deterministic method are repeated for every seed.
    """

    config: dict[str, Any]
    agents: tuple[str, ...]
    budgets: tuple[str, ...]
    seeds: int
    checkpoints: tuple[int, ...]
    redraw: bool = False
    environment: dict[str, Any] = Field({})
    records: tuple[ComparisonPoint, ...]
